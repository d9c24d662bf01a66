"""admin-fairseq grow-vocabulary: known words keep their outputs, and new ones can be learned."""

import re
import shutil

import pytest
import torch
from fairseq.data import Dictionary

from admin_fairseq import cli
from admin_fairseq.checkpoints import grow, load_checkpoint, restore
from tests.conftest import write_corpus
from tests.helpers import TRAIN_FLAGS, USER_DIR, arguments, batch, build_from, dictionary
from tests.helpers import task as small_task

SHARINGS = {
    "all": dict(share_all_embeddings=True, share_decoder_input_output_embed=True),
    "decoder": dict(share_decoder_input_output_embed=True),
    "none": {},
}
EXTRA = ["neu", "größer", "c3"]


def larger(words, first=()):
    """A dictionary with more words, the old ones in another order: rows go by word, not number."""
    new = Dictionary()
    for word in [*first, *reversed(words.symbols[words.nspecial :]), *EXTRA]:
        new.add_symbol(word)
    return new


def write(words, path):
    words.save(str(path))
    return path


@pytest.fixture(params=list(SHARINGS))
def checkpoint(request, tmp_path):
    """A small Admin model with dictionaries of 40 types, or of 40 and 36."""
    sharing = SHARINGS[request.param]
    sizes = (40,) if request.param == "all" else (40, 36)
    flags = dict(
        init_type="adaptive",
        admin_omega={},
        source_lang="en",
        target_lang="de",
        task="translation",
        **sharing,
    )
    args = arguments(**flags)
    task = small_task(*sizes)
    model = build_from(args, task)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    for language, words in (("en", task.source_dictionary), ("de", task.target_dictionary)):
        write(words, tmp_path / "old" / f"dict.{language}.txt")
        write(larger(words), tmp_path / "new" / f"dict.{language}.txt")
    state = {
        "model": model.state_dict(),
        "args": args,
        "last_optimizer_state": {"big": torch.ones(3)},
    }
    torch.save(state, tmp_path / "model.pt")
    return tmp_path, model, request.param


def grown_model(folder):
    new = [
        Dictionary.load(str(folder / "new" / f"dict.{language}.txt")) for language in ("en", "de")
    ]
    task = small_task()
    task.src_dict, task.tgt_dict = new
    return restore(str(folder / "grown.pt"), task), new


def renumbered(tokens, old, new):
    return torch.tensor(
        [[new.indices[old.symbols[token]] for token in row] for row in tokens.tolist()]
    )


def command(folder, *flags):
    words = [
        folder / "model.pt",
        folder / "grown.pt",
        "--old",
        folder / "old",
        "--new",
        folder / "new",
        *flags,
    ]
    return cli.main(["grow-vocabulary", *map(str, words)])


def test_logits_of_known_words_stay(checkpoint):
    folder, before, _ = checkpoint
    assert command(folder) == 0
    after, new = grown_model(folder)
    old = (before.encoder.dictionary, before.decoder.dictionary)
    sample = batch(types=36)["net_input"]
    moved = {
        "src_tokens": renumbered(sample["src_tokens"], old[0], new[0]),
        "src_lengths": sample["src_lengths"],
        "prev_output_tokens": renumbered(sample["prev_output_tokens"], old[1], new[1]),
    }
    with torch.no_grad():
        expected, logits = before.eval()(**sample)[0], after.eval()(**moved)[0]
    assert logits.shape[-1] == len(old[1]) + 3
    places = [new[1].indices[word] for word in old[1].symbols]
    assert torch.allclose(logits[..., places], expected, rtol=0, atol=1e-5)


def test_tables_stay_tied_and_new_rows_are_as_fairseq_starts_them(checkpoint):
    folder, _, sharing = checkpoint
    assert command(folder) == 0
    state = load_checkpoint(folder / "grown.pt")
    assert "last_optimizer_state" not in state
    tables = [state["model"][name] for name in (grow.SOURCE, grow.TARGET, grow.OUTPUT)]
    same = [
        tables[0].shape == tables[1].shape and torch.equal(*tables[:2]),
        torch.equal(*tables[1:]),
    ]
    assert same == {"all": [True, True], "decoder": [False, True], "none": [False, False]}[sharing]
    assert tables[0].data_ptr() == tables[1].data_ptr() or sharing != "all", "stored once"
    model, new = grown_model(folder)
    assert (model.decoder.embed_tokens.weight is model.decoder.output_projection.weight) == (
        sharing != "none"
    )
    assert (model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight) == (
        sharing == "all"
    )
    assert tables[0][new[0].pad()].eq(0).all()


def test_new_rows_are_normal_and_from_the_seed():
    old, new = dictionary(10), dictionary(4000)
    table = torch.full((10, 64), 9.0)
    tables = [
        grow.grow_table(table, old, new, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])
    assert tables[0][:10].eq(9).all()
    fresh = tables[0][10:]
    assert (
        fresh.std().item() == pytest.approx(64**-0.5, rel=0.02) and abs(fresh.mean().item()) < 0.002
    )


def test_files_of_the_first_embeddings_are_forgotten(checkpoint):
    folder, _, _ = checkpoint
    state = torch.load(folder / "model.pt", weights_only=False)
    args = state.pop("args")
    args.encoder_embed_path = "vectors"
    torch.save({**state, "cfg": {"model": args}}, folder / "model.pt")
    assert command(folder) == 0
    grown = torch.load(folder / "grown.pt", weights_only=False)
    assert grown["cfg"]["model"].encoder_embed_path is None


def test_half_precision_stays(checkpoint):
    folder = checkpoint[0]
    state = load_checkpoint(folder / "model.pt")
    state["model"] = {name: value.bfloat16() for name, value in state["model"].items()}
    torch.save(state, folder / "model.pt")
    assert command(folder) == 0
    assert load_checkpoint(folder / "grown.pt")["model"][grow.SOURCE].dtype == torch.bfloat16


def test_missing_words_are_listed_and_fillings_are_not(checkpoint, capsys):
    folder, _, sharing = checkpoint
    for language in ("en", "de"):
        lines = (folder / "new" / f"dict.{language}.txt").read_text().splitlines()
        kept = [line for line in lines if line.split()[0] not in ("w3", "w7")]
        (folder / "new" / f"dict.{language}.txt").write_text("\n".join(kept) + "\n")
    assert command(folder) == 1
    message = capsys.readouterr().err
    assert (
        "--new: 2 source words of the old dictionary are missing: w3 w7" in message
        and "2 target words" in message
    )
    assert not (folder / "grown.pt").exists()

    for language in ("en", "de"):
        file = folder / "old" / f"dict.{language}.txt"
        file.write_text(
            file.read_text().replace("w3 ", "madeupword0000 ").replace("w7 ", "madeupword0001 ")
        )
    assert command(folder) == 0, "nothing was trained on a filling"


def test_dictionaries_of_another_model(checkpoint, capsys):
    folder, _, sharing = checkpoint
    write(dictionary(41), folder / "old" / "dict.en.txt")
    write(larger(dictionary(41)), folder / "new" / "dict.en.txt")
    assert command(folder) == 1
    message = capsys.readouterr().err
    assert "--old: 41 source types (fairseq's own included), but the model has 40" in message
    assert ("one table" in message) == (sharing == "all")


@pytest.mark.parametrize(
    "flags, reason",
    [
        ({"adaptive_softmax_cutoff": "20"}, "--adaptive-softmax-cutoff"),
        ({"merge_src_tgt_embed": True}, "--merge-src-tgt-embed"),
        ({"adaptive_input": True}, "--adaptive-input"),
    ],
)
def test_models_that_cannot_grow(checkpoint, flags, reason, capsys):
    folder = checkpoint[0]
    state = load_checkpoint(folder / "model.pt")
    vars(state["args"]).update(flags)
    torch.save(state, folder / "model.pt")
    assert command(folder) == 1
    assert reason in capsys.readouterr().err and not (folder / "grown.pt").exists()


def test_other_mistakes(checkpoint, capsys):
    folder = checkpoint[0]
    (folder / "bad.txt").write_text("word\n")
    (folder / "grown.pt").write_text("mine")
    for flags, reason in (
        ([], "already exists"),
        (["--force", "--new", str(folder / "none")], "none: does not exist"),
        (["--force", "--new", str(folder / "bad.txt")], "bad.txt: "),
    ):
        assert command(folder, *flags) == 1
        error = capsys.readouterr().err
        assert reason in error and "Traceback" not in error
    assert (folder / "grown.pt").read_text() == "mine"
    state = load_checkpoint(folder / "model.pt")
    state["args"].source_lang = None
    torch.save(state, folder / "model.pt")
    assert command(folder, "--force") == 1
    assert "languages are unknown" in capsys.readouterr().err


def test_one_file_for_both_sides(tmp_path):
    args = arguments(
        init_type="adaptive", admin_omega={}, task="translation", share_all_embeddings=True
    )
    model = build_from(args, small_task())
    torch.save({"model": model.state_dict(), "args": args}, tmp_path / "model.pt")
    old, new = (
        write(dictionary(40), tmp_path / "old.txt"),
        write(larger(dictionary(40)), tmp_path / "new.txt"),
    )
    grow.grow_vocabulary(str(tmp_path / "model.pt"), str(tmp_path / "grown.pt"), str(old), str(new))
    assert load_checkpoint(tmp_path / "grown.pt")["model"][grow.SOURCE].shape == (43, 16)


@pytest.mark.slow
@pytest.mark.subprocess
def test_fine_tunes_on_text_with_new_words(warm, data_bin, tmp_path):
    """From a training to the translation of a sentence with a word that the first data lacked."""
    write_corpus(tmp_path / "text", {"train": 60, "valid": 10, "test": 9}, seed=8)
    for file in (tmp_path / "text").iterdir():
        file.write_text(re.sub(r"\b([st])1\d\b", r"\g<1>99", file.read_text()))
    (tmp_path / "new.txt").write_text((data_bin / "dict.en.txt").read_text() + "s99 1\nt99 1\n")
    common = ["--user-dir", USER_DIR, "--cpu", *TRAIN_FLAGS, "--no-epoch-checkpoints"]
    start = [
        "fairseq-train",
        data_bin,
        *common,
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "4",
        "--save-dir",
    ]
    warm.run(*start, tmp_path / "a")
    words = "-s en -t de --workers 1 --trainpref train --validpref valid --testpref test".split()
    words += ["--srcdict", "../new.txt", "--tgtdict", "../new.txt", "--destdir", "../bin"]
    warm.run("fairseq-preprocess", *words, cwd=tmp_path / "text")
    last = tmp_path / "a" / "checkpoint_last.pt"
    new = tmp_path / "bin"
    plain = [
        "fairseq-train",
        new,
        *common,
        "--init-type",
        "adaptive",
        "--max-update",
        "3",
        "--save-dir",
    ]
    refused = warm.run(*plain, tmp_path / "b", "--finetune-from-model", last, check=False)
    assert refused.returncode != 0, "without grown tables it does not start"
    shutil.rmtree(tmp_path / "b", ignore_errors=True)
    grown = tmp_path / "grown.pt"
    warm.run("admin-fairseq", "grow-vocabulary", last, grown, "--old", data_bin, "--new", new)
    output = warm.run(*plain, tmp_path / "b", "--finetune-from-model", grown).stdout
    assert "loading pretrained model from" in output and "no profile is read" in output
    tuned = tmp_path / "b" / "checkpoint_last.pt"
    command = [
        "fairseq-generate",
        new,
        "--user-dir",
        USER_DIR,
        "--path",
        tuned,
        "--cpu",
        "--max-len-b",
        "9",
    ]
    output = warm.run(*command).stdout
    assert len(re.findall(r"^H-\d+\t", output, re.M)) == 9
    assert re.search(r"^S-\d+\t.*\bs99\b", output, re.M) and not re.search(
        r"^[ST]-.*<+unk>", output, re.M
    )
    before, after = (load_checkpoint(path)["model"][grow.SOURCE] for path in (grown, tuned))
    assert not torch.equal(before[-2], after[-2]), "the new word's row is trained"
