"""admin-fairseq analyze, as a user types it: what it writes, and what it says to mistakes."""

import csv
import json
import shutil

import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.analysis.words import parse_models, parse_pairs
from admin_fairseq.errors import AdminError
from tests.helpers import TRAIN_FLAGS, USER_DIR, run, train

pytestmark = pytest.mark.subprocess

SHAPE = [
    "--cpu",
    "--max-tokens",
    "200",
    "--encoder-layers",
    "2",
    "--decoder-layers",
    "2",
    "--encoder-embed-dim",
    "16",
    "--encoder-ffn-embed-dim",
    "32",
    "--encoder-attention-heads",
    "2",
    "--decoder-attention-heads",
    "2",
    "--share-all-embeddings",
]


@pytest.fixture(scope="module")
def checkpoints(data_bin, tmp_path_factory):
    """Trained checkpoints: ours, a stock transformer's, and one of another architecture."""
    folder = tmp_path_factory.mktemp("trained")
    flags = ["--max-epoch", "1", "--no-epoch-checkpoints"]
    train(data_bin, folder / "admin", "--init-type", "adaptive-auto", *flags)
    words = f"fairseq-train {data_bin} --cpu --optimizer adam --lr 1e-3 --max-tokens 400".split()
    words += ["--num-workers", "0"]
    transformer = (
        "--encoder-embed-dim 16 --encoder-ffn-embed-dim 32 --encoder-layers 2 --decoder-layers 1"
    )
    heads = "--encoder-attention-heads 2 --decoder-attention-heads 2"
    run(
        *words,
        *flags,
        "--arch",
        "transformer",
        *transformer.split(),
        *heads.split(),
        "--save-dir",
        folder / "stock",
    )
    # another architecture: a trained convolutional model would do as well, and takes longer
    state = torch.load(folder / "stock/checkpoint_last.pt", weights_only=True)
    state["cfg"]["model"].arch = "fconv"
    torch.save(state, folder / "fconv.pt")
    return folder


OF_SGD = "--max-tokens 256 --seed 7 --criterion label_smoothed_cross_entropy --label-smoothing 0.1"


@pytest.fixture(scope="module")
def sgd(data_bin, tmp_path_factory):
    """A training by plain SGD: its checkpoints after one update and after two."""
    folder = tmp_path_factory.mktemp("sgd")
    flags = " ".join(TRAIN_FLAGS).replace("radam --adam-betas (0.9,0.98)", "sgd --momentum 0")
    flags += " --lr-scheduler fixed --lr 1 --warmup-updates 0 --dropout 0 --max-update 2"
    flags += " --save-interval-updates 1 --no-epoch-checkpoints --disable-validation"
    where = ["--user-dir", USER_DIR, "--cpu", "--save-dir", folder]
    run("fairseq-train", data_bin, *where, *flags.split())
    return folder / "checkpoint_1_1.pt", folder / "checkpoint_1_2.pt"


def analyze(*words):
    return cli.main(["analyze", *(str(word) for word in words)])


def read(prefix):
    with open(f"{prefix}.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    document = json.loads((prefix.parent / f"{prefix.name}.json").read_text())
    assert len(document["rows"]) == len(rows) > 0
    return rows, document


def check_figures(prefix):
    assert (prefix.parent / f"{prefix.name}.png").read_bytes().startswith(b"\x89PNG")
    assert (prefix.parent / f"{prefix.name}.pdf").read_bytes().startswith(b"%PDF")


def test_dependency_of_methods_and_checkpoints_side_by_side(
    data_bin, checkpoints, tmp_path, capsys
):
    ours, stock = (checkpoints / name / "checkpoint_last.pt" for name in ("admin", "stock"))
    assert (
        analyze(
            "dependency",
            data_bin,
            *SHAPE,
            "--models",
            "post-ln",
            "rezero",
            ours,
            stock,
            "--out",
            tmp_path / "d",
        )
        == 0
    )
    rows, document = read(tmp_path / "d")
    models = list(dict.fromkeys(row["model"] for row in rows))
    assert models == ["post-ln", "rezero", "admin/checkpoint_last.pt", "stock/checkpoint_last.pt"]
    stock_sites = {row["site"] for row in rows if row["model"] == models[3]}
    assert sum(site.startswith("decoder") for site in stock_sites) == 3, "its depth is its own"
    assert all(float(row["reconstruction_error"]) < 1e-10 for row in rows)
    assert document["provenance"]["command"].startswith("admin-fairseq analyze dependency")
    out = capsys.readouterr().out
    assert "components add up to the output within" in out
    own = [row for row in rows if row["site"] == row["branch"] and row["model"] == "post-ln"]
    for stack in ("encoder", "decoder"):
        shares = sum(float(row["beta"]) ** 2 for row in own if row["stack"] == stack)
        assert document["summary"][f"post-ln, {stack}"]["sum of own shares"] == pytest.approx(
            shares, rel=1e-4
        )
        told = out.partition(f"post-ln, {stack}\n")[2].partition(
            "own shares, the diagonal's squares: "
        )
        assert told[2].split()[0] == f"{shares:.2f}"
    check_figures(tmp_path / "d")


def test_labels(tmp_path, capsys):
    words = ["post-ln", "a/x.pt", "b/x.pt", "mine=c/x.pt", "Admin, dim 64=admin"]
    expected = {
        "post-ln": "post-ln",
        "a/x.pt": "a/x.pt",
        "b/x.pt": "b/x.pt",
        "mine": "c/x.pt",
        "Admin, dim 64": "admin",
    }
    assert parse_models(words) == expected
    assert "LABEL=WORD has both" in refused(capsys, "dependency", "data-bin", "--models", "=admin")
    assert "admin: twice" in refused(capsys, "dependency", "data-bin", "--models", "admin", "admin")


ALIASES = {
    "post-ln": ["default"],
    "admin": ["adaptive"],
    "rezero-postln": ["rezero_postln"],
    "looklinear": ["looks-linear"],
}


def test_methods_by_all_their_names(data_bin, tmp_path):
    words = ["pre-ln", "deepnet", "rezero", "analytic"]
    for word, aliases in ALIASES.items():
        words += [word, *aliases]
    prefix = tmp_path / "d"
    assert analyze("dependency", data_bin, *SHAPE, "--models", *words, "--out", prefix) == 0
    betas = {}
    for row in read(prefix)[0]:
        betas.setdefault(row["model"], []).append(row["beta"])
    assert list(betas) == words, "tables have the words that were given"
    for word, aliases in ALIASES.items():
        for alias in aliases:
            assert betas[alias] == betas[word]
    assert betas["post-ln"] != betas["admin"] != betas["pre-ln"]


def test_tables_have_the_words_of_the_papers(data_bin, tmp_path):
    words = {"default": "post-ln", "adaptive-auto": "admin", "rezero_postln": "rezero-postln"}
    for init_type, word in words.items():
        out = ["--init-type", init_type, "--out", tmp_path / "d"]
        assert analyze("dependency", data_bin, *SHAPE, *out) == 0
        assert {row["model"] for row in read(tmp_path / "d")[0]} == {word}


def test_redraw_of_an_analysis(data_bin, tmp_path):
    words = ["--models", "post-ln", "admin", "--out", tmp_path / "g"]
    assert analyze("gradients", data_bin, *SHAPE, *words) == 0
    drawn = (tmp_path / "g.png").read_bytes()
    (tmp_path / "g.png").unlink()
    assert analyze("redraw", tmp_path / "g") == 0
    assert (tmp_path / "g.png").read_bytes() == drawn


def test_the_same_seed_gives_the_same_files(data_bin, tmp_path):
    for kind in ("dependency", "gradients"):
        contents = []
        for _ in range(2):
            analyze(
                kind,
                data_bin,
                *SHAPE,
                "--init-type",
                "adaptive-auto",
                "--with-dropout",
                "--out",
                tmp_path / "x",
            )
            contents.append(
                [
                    (tmp_path / f"x.{ending}").read_bytes()
                    for ending in ("tsv", "json", "png", "pdf")
                ]
            )
        assert contents[0] == contents[1]
        analyze(
            kind,
            data_bin,
            *SHAPE,
            "--init-type",
            "adaptive-auto",
            "--seed",
            "2",
            "--out",
            tmp_path / "x",
        )
        assert (tmp_path / "x.tsv").read_bytes() != contents[0][0]


def test_output_change_sweeps_depths_and_seeds(data_bin, checkpoints, tmp_path, capsys):
    stock = checkpoints / "stock/checkpoint_last.pt"
    words = [
        "--models",
        "post-ln",
        "admin",
        "rezero",
        stock,
        "--depths",
        "1",
        "2",
        "4",
        "--seeds",
        "2",
    ]
    assert analyze("output-change", data_bin, *SHAPE, *words, "--out", tmp_path / "o") == 0
    rows, document = read(tmp_path / "o")
    assert len(rows) == (3 * 3 + 1) * 2 * 2 * 2
    assert {
        row["sites"] for row in rows if row["stack"] == "decoder" and row["model"] == "admin"
    } == {"3", "6", "12"}
    assert {row["seed"] for row in rows} == {"1", "2"}
    assert len(document["summary"]["fits"]) == 3 * 2 * 2
    points = {
        (p["model"], p["stack"], p["perturbation"], p["sites"]): p
        for p in document["summary"]["points"]
    }
    two = [
        float(row["output_change"])
        for row in rows
        if (row["model"], row["stack"], row["sites"]) == ("admin", "encoder", "8")
    ]
    assert points["admin", "encoder", "random", 8]["mean"] == pytest.approx(
        (two[0] + two[2]) / 2, rel=1e-4
    )
    assert "O(log N)" in capsys.readouterr().out
    check_figures(tmp_path / "o")


def test_output_change_of_the_flags_own_init_type(data_bin, tmp_path, capsys):
    words = [
        "--init-type",
        "deepnet",
        "--depths",
        "1",
        "2",
        "--seeds",
        "1",
        "--out",
        tmp_path / "o.png",
    ]
    assert analyze("output-change", data_bin, *SHAPE, *words) == 0
    assert {row["model"] for row in read(tmp_path / "o")[0]} == {"deepnet"}
    assert "4 sites" in capsys.readouterr().out


def test_gradients(data_bin, tmp_path):
    flags = ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"]
    assert (
        analyze(
            "gradients",
            data_bin,
            *SHAPE,
            *flags,
            "--models",
            "pre-ln",
            "deepnet",
            "--out",
            tmp_path / "g",
        )
        == 0
    )
    rows, document = read(tmp_path / "g")
    assert len(rows) == 2 * (2 * 2 + 2 * 3)
    assert len(document["summary"]["deepnet"]["by layer"]) == 4
    check_figures(tmp_path / "g")


def test_updates_of_plain_sgd_are_its_gradients(data_bin, sgd, tmp_path, capsys):
    """The second update of fairseq-train is the gradient of its second batch, times the rate."""
    pair = f"SGD={sgd[0]},{sgd[1]}"
    words = [*OF_SGD.split(), "--cpu", "--batch", "2", "--models", pair, "--out", tmp_path / "u"]
    assert analyze("updates", data_bin, *words) == 0
    rows, document = read(tmp_path / "u")
    assert len(rows) == 2 * (4 + 2) + 2 * (4 + 4 + 2)
    assert {row["model"] for row in rows} == {"SGD"}
    for row in rows:
        # rates are 1; weights are in float32, which rounds a step by some 1e-8 an element
        update, gradient = float(row["update"]), float(row["gradient"])
        assert update == pytest.approx(gradient, rel=2e-3, abs=1e-7)
        relative = [float(row[f"relative_{what}"]) for what in ("gradient", "update")]
        assert relative[0] == pytest.approx(relative[1], rel=2e-3, abs=1e-6)
    summary = document["summary"]["SGD"]
    assert summary["updates"] == [1, 2]
    for stack in ("encoder", "decoder"):
        assert summary[stack]["rank correlation"] > 0.99
        ratios = [summary[stack][what]["largest/smallest"] for what in ("gradient", "update")]
        norms = [float(row["gradient"]) for row in rows if row["stack"] == stack]
        assert ratios == pytest.approx([max(norms) / min(norms)] * 2, rel=1e-2)
    out = capsys.readouterr().out
    assert "SGD, updates 1 to 2: loss" in out and "decoder, update:" in out
    check_figures(tmp_path / "u")
    drawn = (tmp_path / "u.png").read_bytes()
    (tmp_path / "u.png").unlink()
    assert analyze("redraw", tmp_path / "u") == 0
    assert (tmp_path / "u.png").read_bytes() == drawn


def test_pairs(tmp_path, monkeypatch):
    """Paths may hold commas and equals signs, as long as there is one way to read them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "b.pt", "lr=1,dim=2.pt", "x", "x,x"):
        (tmp_path / name).write_text(name)
    words = ["A=a.pt,b.pt", "a, then b=a.pt,b.pt", "C=lr=1,dim=2.pt,b.pt", "D=b.pt,lr=1,dim=2.pt"]
    assert parse_pairs(words) == {
        "A": ("a.pt", "b.pt"),
        "a, then b": ("a.pt", "b.pt"),
        "C": ("lr=1,dim=2.pt", "b.pt"),
        "D": ("b.pt", "lr=1,dim=2.pt"),
    }
    (tmp_path / "link.pt").symlink_to(tmp_path / "a.pt")
    mistakes = {
        "a.pt,b.pt": "has no label",
        "=a.pt,b.pt": "has no label",
        "post-ln": "has no label",
        "A=a.pt": "a comma between two checkpoints",
        "B=post-ln": "post-ln is a method",
        "C=admin,b.pt": "admin is a method",
        "D=a.pt,none.pt": "no such checkpoint: none.pt",
        "E=a.pt,": "no such checkpoint: ''",
        "F=a.pt,b.pt,x": "none of its commas",
        "G=x,x,x": "several of its commas",
        "H=a.pt,a.pt": "both are one file",
        "I=a.pt,link.pt": "both are one file",
    }
    with pytest.raises(AdminError) as error:
        parse_pairs(["same=a.pt,b.pt", *mistakes, "same=b.pt,a.pt"])
    lines = str(error.value).splitlines()
    assert lines[0] == "--models:" and lines[-1] == "  - same: twice"
    assert len(lines) == 2 + len(mistakes), "all of them at once"
    for line, (word, problem) in zip(lines[1:], mistakes.items()):
        assert line.startswith(f"  - {word}: ") and problem in line


def test_stability_with_the_flags_of_a_training(data_bin, tmp_path):
    """As a real command, with all that a fairseq-train command has in it."""
    flags = f"""--user-dir {USER_DIR} --arch transformer_iwslt_de_en --optimizer adam --lr 5e-4
        --clip-norm 0.1 --fp16 --save-dir {tmp_path}/run --max-epoch 3 --dropout 0.3
        --criterion label_smoothed_cross_entropy""".split()
    out = run(
        "admin-fairseq",
        "analyze",
        "stability",
        data_bin,
        *flags,
        *SHAPE,
        "--decoder-embed-dim",
        "16",
        "--out",
        tmp_path / "s",
    ).stdout
    assert "encoder: output change" in out and "times Admin's" in out
    assert "Traceback" not in out and "Warning" not in out
    assert not (tmp_path / "run").exists()
    check_figures(tmp_path / "s")


def test_stability_of_a_trained_checkpoint(data_bin, checkpoints, tmp_path, capsys):
    path = checkpoints / "admin/checkpoint_last.pt"
    assert analyze("stability", data_bin, "--cpu", "--models", path, "--out", tmp_path / "s") == 0
    assert "omega:" in capsys.readouterr().out


def test_trace_draws_what_training_logged(data_bin, tmp_path, capsys):
    out = train(
        data_bin,
        tmp_path / "run",
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "4",
        "--no-save",
        "--trace-interval",
        "2",
        "--log-interval",
        "2",
        "--log-format",
        "json",
    ).stdout
    (tmp_path / "train.log").write_text(out)
    assert analyze("trace", tmp_path / "train.log", "--out", tmp_path / "t") == 0
    rows = read(tmp_path / "t")[0]
    assert len(rows) == 2 * 10 * 6 and {row["update"] for row in rows} == {"2", "4"}
    check_figures(tmp_path / "t")
    assert "nothing is traced" in refused(capsys, "trace", tmp_path / "t.tsv")
    assert "cannot be read" in refused(capsys, "trace", tmp_path / "none.log")
    assert "cannot be read" in refused(capsys, "trace", tmp_path / "t.png")
    simple = train(
        data_bin,
        tmp_path / "run",
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "2",
        "--no-save",
        "--trace-interval",
        "2",
        "--log-interval",
        "1",
        "--log-format",
        "simple",
    ).stdout
    (tmp_path / "simple.log").write_text(simple)
    assert analyze("trace", tmp_path / "simple.log", "--out", tmp_path / "s") == 0
    assert [row["value"] for row in read(tmp_path / "s")[0]] == [
        row["value"] for row in rows if row["update"] == "2"
    ]


def test_adaptive_takes_the_profile_that_training_would_take(data_bin, checkpoints, tmp_path):
    words = ["--init-type", "adaptive", "--out", tmp_path / "d"]
    analyze(
        "dependency",
        data_bin,
        *SHAPE,
        *words,
        "--admin-profile",
        checkpoints / "admin/admin.profile",
        "--seed",
        "7",
    )
    with_file = read(tmp_path / "d")[0]
    analyze("dependency", data_bin, *SHAPE, *words, "--seed", "7")
    measured = read(tmp_path / "d")[0]
    assert [row["site"] for row in with_file] == [row["site"] for row in measured]
    assert [row["beta"] for row in with_file] != [row["beta"] for row in measured], (
        "that one was measured under dropout"
    )


@pytest.mark.parametrize(
    "given, takes_it",
    [([], True), (["adaptive"], True), (["adaptive-profiling"], False), (["adaptive-auto"], False)],
)
def test_a_method_takes_the_profile_that_is_named(data_bin, checkpoints, tmp_path, given, takes_it):
    """Unless the command line is one that measures it."""
    profile = str(checkpoints / "admin/admin.profile")

    def betas(*words):
        path = tmp_path / "d"
        flags = [*SHAPE, *words, "--seed", "7", "--out", path]
        assert analyze("dependency", data_bin, *flags) == 0
        return [row["beta"] for row in read(path)[0]]

    expected = ["--admin-profile", profile] if takes_it else []
    words = ["--models", "admin", "--admin-profile", profile]
    if given:
        words += ["--init-type", *given]
    assert betas(*words) == betas("--init-type", "adaptive", *expected)


def test_other_depths_than_those_of_the_profile_are_measured(data_bin, checkpoints, tmp_path):
    def changes(*words):
        flags = [*SHAPE, "--models", "admin", "--depths", "2", "3", "--seeds", "1", *words]
        assert analyze("output-change", data_bin, *flags, "--out", tmp_path / "c") == 0
        rows = read(tmp_path / "c")[0]
        found = {"2": [], "3": []}
        for row in rows:
            sites_of_a_layer = 2 if row["stack"] == "encoder" else 3
            found[str(int(row["sites"]) // sites_of_a_layer)].append(row["output_change"])
        return found.values()

    two, three = changes("--admin-profile", checkpoints / "admin/admin.profile")
    two_measured, three_measured = changes()
    assert two != two_measured and three == three_measured


# mistakes


def refused(capsys, *words):
    assert analyze(*words) == 1
    error = capsys.readouterr().err
    assert error.count("admin-fairseq: error: ") == 1 and "Traceback" not in error
    return error


def test_another_architecture(data_bin, checkpoints, capsys, tmp_path):
    assert "fconv" in refused(
        capsys, "dependency", data_bin, "--cpu", "--models", checkpoints / "fconv.pt"
    )
    assert "lightconv" in refused(capsys, "dependency", data_bin, "--cpu", "--arch", "lightconv")


def test_no_checkpoint_and_no_method(data_bin, capsys, tmp_path):
    assert "no such checkpoint, and no method (post-ln" in refused(
        capsys, "gradients", data_bin, *SHAPE, "--models", "postln"
    )
    for content, reason in ((b"hello", "something else"), (b"", "it is empty")):
        (tmp_path / "x.pt").write_bytes(content)
        assert reason in refused(
            capsys, "gradients", data_bin, "--cpu", "--models", tmp_path / "x.pt"
        )
    assert "it is a folder" in refused(capsys, "gradients", data_bin, "--cpu", "--models", tmp_path)


def test_pairs_that_are_no_two_checkpoints_of_a_training(
    data_bin, sgd, checkpoints, capsys, tmp_path
):
    before, after = sgd

    def error_of(*pair):
        models = ["--cpu", "--models", f"A={pair[0]},{pair[1]}", "--out", tmp_path / "x"]
        return refused(capsys, "updates", data_bin, *models)

    def changed(name, change):
        state = torch.load(after, weights_only=True)
        change(state)
        torch.save(state, tmp_path / name)
        return tmp_path / name

    def still_at_two(state):
        state["model"]["decoder.layers.1.fc1.weight"] += 1

    def same_weights(state):
        state["model"] = torch.load(before, weights_only=True)["model"]

    def with_nan(state):
        state["model"]["decoder.layers.1.fc1.weight"][0, 0] = float("nan")

    error = error_of(after, before)
    assert f"{before}: it is of update 1, and {after} is of update 2" in error
    assert "name the earlier one first" in error
    assert "name a later one" in error_of(after, changed("again.pt", still_at_two))
    same = changed("same.pt", same_weights)
    assert f"{same}: no weight matrix of a branch differs from {before}" in error_of(before, same)
    error = error_of(before, changed("nan.pt", with_nan))
    assert "nan.pt: decoder.layers.1.fc1.weight holds NaN or infinity" in error
    error = error_of(before, checkpoints / "admin/checkpoint_last.pt")
    assert "is not the same model as" in error and "omega is not the model's" in error
    assert "decoder.layers.1.self_attn_layer_norm.weight is missing" in error_of(
        before, checkpoints / "stock/checkpoint_last.pt"
    )
    (tmp_path / "half.pt").write_bytes(after.read_bytes()[:5000])
    assert "half.pt" in error_of(before, tmp_path / "half.pt")
    with pytest.raises(SystemExit) as exit_code:
        analyze("updates", data_bin, "--cpu")
    assert exit_code.value.code == 2 and "required: --models" in capsys.readouterr().err
    assert list(tmp_path.glob("x.*")) == []


def test_a_pair_that_does_not_say_its_updates(data_bin, sgd, capsys, tmp_path):
    """The order is then believed: weights that were written by another program."""
    for path in sgd:
        state = torch.load(path, weights_only=True)
        state["optimizer_history"] = []
        torch.save(state, tmp_path / path.name)
    pair = ",".join(str(tmp_path / path.name) for path in sgd)
    words = ["--cpu", "--models", f"A={pair}", "--out", tmp_path / "u"]
    assert analyze("updates", data_bin, *words) == 0
    assert "A, updates ? to ?" in capsys.readouterr().out
    assert read(tmp_path / "u")[1]["summary"]["A"]["updates"] == [None, None]


def test_half_a_checkpoint(data_bin, checkpoints, capsys, tmp_path):
    whole = (checkpoints / "admin/checkpoint_last.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in refused(
        capsys, "gradients", data_bin, "--cpu", "--models", tmp_path / "half.pt"
    )


@pytest.mark.parametrize("words", [["--init-type", "adaptive"], ["--models", "admin"]])
def test_a_profile_that_is_named_must_be_there(data_bin, capsys, tmp_path, words):
    words = [*words, "--admin-profile", tmp_path / "none"]
    assert "no such profile" in refused(capsys, "dependency", data_bin, *SHAPE, *words)


def test_the_data_come_first(data_bin, capsys):
    assert "DATA-BIN comes first" in refused(
        capsys, "dependency", "--models", "post-ln", "admin", data_bin
    )
    assert "DATA-BIN comes first" in refused(capsys, "dependency")


def test_user_dir_in_a_pasted_command(data_bin, tmp_path):
    """From a folder that has no such plugin, as where it was installed."""
    words = ["dependency", data_bin, *SHAPE, "--user-dir", "admin_fairseq", "--out", tmp_path / "d"]
    assert "Traceback" not in run("admin-fairseq", "analyze", *words, cwd=tmp_path).stdout


def test_a_checkpoint_of_other_data(data_bin, checkpoints, capsys, tmp_path):
    other = tmp_path / "data-bin"
    shutil.copytree(data_bin, other)
    for lang in ("en", "de"):
        with open(other / f"dict.{lang}.txt", "a") as file:
            file.write("more 1\n")
    path = checkpoints / "admin/checkpoint_last.pt"
    assert "the data-bin's dictionary is another" in refused(
        capsys, "dependency", other, "--cpu", "--models", path
    )


def test_non_finite_weights(data_bin, checkpoints, capsys, tmp_path):
    state = torch.load(checkpoints / "admin/checkpoint_last.pt", weights_only=True)
    state["model"]["encoder.layers.1.fc1.bias"][0] = float("inf")
    torch.save(state, tmp_path / "bad.pt")
    for kind in ("dependency", "output-change", "gradients"):
        error = refused(
            capsys,
            kind,
            data_bin,
            "--cpu",
            "--models",
            tmp_path / "bad.pt",
            "--out",
            tmp_path / "x",
        )
        assert "not finite" in error and "analyze stability" in error
    assert (
        analyze(
            "stability", data_bin, "--cpu", "--models", tmp_path / "bad.pt", "--out", tmp_path / "s"
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "encoder.layers.1.fc1.bias" in out and "encoder.layers.1.ffn_residual" in out
    check_figures(tmp_path / "s")


def test_checkpoints_of_older_releases(data_bin, checkpoints, tmp_path):
    """With q, k and v in one, as in 0.9, and with the second copies of 0.12.2."""
    state = torch.load(checkpoints / "stock/checkpoint_last.pt", weights_only=True)
    weights = state["model"]
    weights["encoder.layers.0.fc1_weight"] = weights["encoder.layers.0.fc1.weight"]
    for kind in ("weight", "bias"):
        parts = [weights.pop(f"encoder.layers.1.self_attn.{p}_proj.{kind}") for p in "qkv"]
        weights[f"encoder.layers.1.self_attn.in_proj_{kind}"] = torch.cat(parts)
    torch.save(state, tmp_path / "old.pt")
    stock = checkpoints / "stock/checkpoint_last.pt"
    assert (
        analyze(
            "dependency",
            data_bin,
            "--cpu",
            "--models",
            stock,
            tmp_path / "old.pt",
            "--out",
            tmp_path / "d",
        )
        == 0
    )
    rows = read(tmp_path / "d")[0]
    assert [row["beta"] for row in rows[: len(rows) // 2]] == [
        row["beta"] for row in rows[len(rows) // 2 :]
    ]


def test_flags_that_drop_layers_or_disturb_weights(data_bin, tmp_path):
    """Users' own flags: the probes look at the whole model, as it is."""
    plain = ["--models", "admin", "post-ln", "--with-dropout", "--out", tmp_path / "p"]
    assert analyze("dependency", data_bin, *SHAPE, *plain) == 0
    flags = ["--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5", "--quant-noise-pq", "0.3"]
    assert analyze("dependency", data_bin, *SHAPE, *plain[:-1], tmp_path / "d", *flags) == 0
    assert (tmp_path / "p.tsv").read_text() == (tmp_path / "d.tsv").read_text()


def test_adaptive_softmax(data_bin, tmp_path, capsys):
    flags = ["--adaptive-softmax-cutoff", "20", "--encoder-layers", "1"]
    shape = [word for word in SHAPE if word != "--share-all-embeddings"]
    error = refused(capsys, "gradients", data_bin, *shape, *flags, "--models", "post-ln")
    assert "--criterion adaptive_loss" in error
    words = ["--criterion", "adaptive_loss", "--out", tmp_path / "g"]
    assert analyze("gradients", data_bin, *shape, *flags, *words, "--models", "post-ln") == 0


def test_no_data(data_bin, capsys, tmp_path):
    assert "no such data-bin" in refused(capsys, "dependency", tmp_path / "none", "--cpu")
    assert "not a data-bin" in refused(capsys, "dependency", tmp_path, "--cpu")
    assert "Dataset not found" in refused(
        capsys, "dependency", data_bin, *SHAPE, "--train-subset", "nosuch"
    )


def test_an_empty_data_bin(data_bin, capsys, tmp_path):
    for lang in ("en", "de"):
        (tmp_path / f"train.{lang}").write_text("")
    dictionary = str(data_bin / "dict.en.txt")
    words = (
        f"fairseq-preprocess -s en -t de --srcdict {dictionary} --joined-dictionary "
        "--destdir data-bin --trainpref train"
    )
    run(*words.split(), cwd=tmp_path)
    assert "it is empty" in refused(capsys, "dependency", tmp_path / "data-bin", *SHAPE)


def test_batches_that_are_not_there(data_bin, capsys):
    assert "has no batch 1000" in refused(capsys, "dependency", data_bin, *SHAPE, "--batch", "1000")
    tiny = ["--max-tokens", "1"]
    assert "no sentence fits --max-tokens 1" in refused(
        capsys, "dependency", data_bin, *SHAPE, *tiny
    )
    assert "--batch 0: must be 1" in refused(capsys, "dependency", data_bin, *SHAPE, "--batch", "0")
    assert "--depths 0" in refused(capsys, "output-change", data_bin, *SHAPE, "--depths", "0")


def test_flags_that_fairseq_refuses(data_bin, capsys):
    refused(capsys, "dependency", data_bin, *SHAPE, "--decoder-embed-dim", "24")
    with pytest.raises(SystemExit) as exit_code:
        analyze("dependency", data_bin, "--no-such-flag")
    assert exit_code.value.code == 2


def test_where_nothing_can_be_written(data_bin, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(
        capsys, "dependency", data_bin, *SHAPE, "--out", tmp_path / "file" / "x"
    )
    assert "a prefix" in refused(capsys, "dependency", data_bin, *SHAPE, "--out", f"{tmp_path}/")
    assert "a prefix" in refused(capsys, "dependency", data_bin, *SHAPE, "--out", "")


def test_help(capsys):
    for words in (["--help"], ["dependency", "--help"], ["output-change", "--help"]):
        with pytest.raises(SystemExit) as exit_code:
            analyze(*words)
        assert exit_code.value.code == 0
    assert "--depths" in capsys.readouterr().out
