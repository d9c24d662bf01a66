"""The commands of docs/your_own_code.md, taken from the page: one training first, then all.

They run in the page's order. Sizes and updates are made small by flags at the end of each training
command, where fairseq takes the last value.
"""

import re
import shlex
import shutil

import pytest

from admin_fairseq.checkpoints import load_checkpoint
from tests.conftest import write_corpus
from tests.helpers import REPOSITORY, run

pytestmark = pytest.mark.subprocess

PAGE = (REPOSITORY / "docs" / "your_own_code.md").read_text(encoding="utf-8")
SMALL = """
    --encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 32
    --decoder-ffn-embed-dim 32 --encoder-attention-heads 2 --decoder-attention-heads 2
    --max-tokens 256 --max-update 3 --cpu --num-workers 0
""".split()


def commands(heading):
    """The command lines of a section, each as words; comments and prose left out."""
    section = (
        PAGE.split(f"\n{heading}\n", 1)[1].split("\n## ")[0] if heading else PAGE.split("\n## ")[0]
    )
    section = re.sub(r"```.*?```", "", section, flags=re.S).replace("\\\n", " ")
    command = re.compile(r"    (fairseq-|admin-fairseq |cp |printf )")
    return [line.strip() for line in section.splitlines() if command.match(line)]


def small(line, *more):
    words = shlex.split(line)
    if words[0] == "fairseq-train":
        words += SMALL
        if "18" in words:
            words += ["--encoder-layers", "3", "--decoder-layers", "3"]
    elif words[0] == "fairseq-generate":
        words += ["--cpu", "--max-len-b", "9"]
    return [*words, *more]


def write_my_code(folder):
    """The two files of the page."""
    folder.mkdir()
    for name, text in re.findall(r"^`my_code/(\w+\.py)`.*?```python\n(.*?)```", PAGE, re.S | re.M):
        (folder / name).write_text(text)
    assert sorted(path.name for path in folder.iterdir()) == ["__init__.py", "my_model.py"]


@pytest.fixture(scope="module")
def place(warm, data_bin, tmp_path_factory):
    """A folder as the page has it, with the trained model that it starts from; what runs there."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(data_bin, folder / "data-bin" / "my_corpus")
    (folder / "admin_fairseq").symlink_to(REPOSITORY / "admin_fairseq")
    write_my_code(folder / "my_code")
    line = commands("## Fine-tuning")[0].replace("checkpoints/tuned", "checkpoints/admin-18")
    line = re.sub(
        r"--init-type adaptive --finetune-from-model \S+", "--init-type adaptive-auto", line
    )
    warm.run(*small(line), cwd=folder)
    yield folder, lambda line, *more: warm.run(*small(line, *more), cwd=folder).stdout


def last(folder, name):
    return load_checkpoint(folder / "checkpoints" / name / "checkpoint_last.pt")


def omegas(state):
    return [name for name in state["model"] if name.endswith(".omega")]


@pytest.mark.slow
def test_a_user_dir_of_ones_own(place):
    folder, do = place
    deep, mine, translate, fold = commands(None)
    output = do(deep)
    assert "profile of the first training batch" in output
    assert len(omegas(last(folder, "my-deep"))) == 2 * 36 + 3 * 3
    do(mine)
    assert last(folder, "mine")["cfg"]["model"].my_temperature == 0.5
    assert len(re.findall(r"^H-\d+\t", do(translate), re.M)) == 27
    trained = folder / "checkpoints" / "mine" / "checkpoint_last.pt"
    run("admin-fairseq", "average", "--inputs", trained, "--output", folder / "mean.pt")
    do(fold)
    assert last(folder, "my-deep")["cfg"]["model"].arch == "my_deep"
    assert (
        load_checkpoint(folder / "checkpoints/my-deep/stock.pt")["cfg"]["model"]["arch"]
        == "transformer"
    )
    path = folder / "checkpoints" / "mine" / "checkpoint_last.pt"
    refused = run(
        "admin-fairseq",
        "fold",
        path,
        folder / "folded.pt",
        "--user-dir",
        "my_code",
        check=False,
        cwd=folder,
    )
    assert (
        refused.returncode == 1
        and "puts out something else" in refused.stdout
        and "MyTransformer" in refused.stdout
    )


def test_fine_tuning(place):
    folder, do = place
    (line,) = commands("## Fine-tuning")
    output = do(line)
    assert "loading pretrained model from checkpoints/admin-18/checkpoint_best.pt" in output
    assert not (folder / "checkpoints" / "tuned" / "admin.profile").exists()
    assert last(folder, "tuned")["optimizer_history"][-1]["num_updates"] == 3
    with pytest.raises(AssertionError, match="admin_fairseq: error: "):
        do(
            line.replace("--init-type adaptive ", "--init-type default "),
            "--save-dir",
            "checkpoints/other",
        )


def test_new_words(place):
    folder, do = place
    write_corpus(folder / "new", {"train": 60, "valid": 10, "test": 9}, seed=8)
    for path in (folder / "new").iterdir():
        path.write_text(re.sub(r"\bs1\d\b", "neues", re.sub(r"\bt1\d\b", "wort", path.read_text())))
    lines = commands("## New words")
    tools = ["cp", "printf", "fairseq-preprocess", "admin-fairseq", "fairseq-train"]
    assert [line.split()[0] for line in lines] == tools
    for line in lines[:2]:
        run("bash", "-c", line, cwd=folder)
    for line in lines[2:]:
        output = do(line)
    assert "loading pretrained model from checkpoints/grown.pt" in output
    name = "encoder.embed_tokens.weight"
    before, after = (last(folder, model)["model"][name] for model in ("admin-18", "new-words"))
    assert len(after) == len(before) + 2


def test_deep_encoder_shallow_decoder(place):
    folder, do = place
    (line,) = commands("## Deep encoder, shallow decoder")
    do(line)
    assert len(omegas(last(folder, "admin-12-1"))) == 2 * 12 + 3


def test_stopping_early_on_bleu(place):
    folder, do = place
    (line,) = commands("## Stopping early, on BLEU")
    assert "--patience 5" in line
    line = line.replace("--patience 5", "--patience 1")
    output = do(line, "--lr", "1e-9", "--max-update", "99")  # it cannot get better
    assert "best_bleu" in output
    assert "early stop since valid performance hasn't improved for last 1 runs" in output
    names = sorted(path.name for path in (folder / "checkpoints" / "early").iterdir())
    assert names == ["admin.profile", "checkpoint_best.pt", "checkpoint_last.pt"]
