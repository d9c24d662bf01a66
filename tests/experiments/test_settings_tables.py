"""The cards' tables of flags: what the authors' scripts say, and what our commands do."""

import re

import pytest

from admin_fairseq.experiments.recipe import TO_TRAIN, read_recipe
from admin_fairseq.experiments.runs import command
from admin_fairseq.experiments.runs.record import flag_of
from admin_fairseq.experiments.runs.settings import Settings
from tests.helpers import REPOSITORY

CARDS = REPOSITORY / "nmt-experiments"
COMMON = """--arch --share-all-embeddings --optimizer --adam-betas --clip-norm --lr --lr-scheduler
--warmup-init-lr --warmup-updates --dropout --attention-dropout --relu-dropout --weight-decay
--criterion --label-smoothing --max-tokens --update-freq --seed --fp16 --fp16-scale-window
--threshold-loss-scale --restore-file --beam --remove-bpe""".split()
CLINIC = [*COMMON, "--init-type", "--encoder-normalize-before", "--decoder-normalize-before"]
DEPTH = ["--encoder-layers", "--decoder-layers", "--min-lr", "--lenpen"]
DEEPNMT = ["--admin-init-type", "--admin-init-path", "--task", "--adv-opt", "--ddp-backend"]
# recipe -> its card, depth, GPUs, and all flags of the authors' scripts but those of log and folder
RECIPES = {
    "iwslt14_de-en": ("iwslt14_de-en", "6-6", 1, [*CLINIC, "--max-update"]),
    "wmt14_en-de": ("wmt14_en-de", "18-18", 4, [*CLINIC, *DEPTH, "--max-update"]),
    "wmt14_en-fr": ("wmt14_en-fr", "60-12", 16, [*CLINIC, *DEPTH, "--max-epoch"]),
    "wmt14_en-fr-deepnmt": (
        "wmt14_en-fr",
        "60-12",
        16,
        [*COMMON, *DEPTH, *DEEPNMT, "--max-epoch"],
    ),
    "multi30k_en-de": (
        "multi30k_en-de",
        "4-4",
        2,
        "--arch --share-all-embeddings --dropout --warmup-updates --lr --max-tokens --max-update "
        "--find-unused-parameters --patience --beam --remove-bpe".split(),
    ),
}


def rows(card, recipe):
    """The table of a recipe's flags: (the authors', ours, equal or why not) of each line."""
    text = (CARDS / f"{card}.md").read_text(encoding="utf-8")
    section = text.split(f"\n### {recipe}\n")[1].split("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def in_code(cell):
    return re.findall(r"`([^`]+)`", cell)


def differs(words, shown):
    """Whether a command has not what a table shows, such as ``--lr 0.0007`` or ``--fp16``."""
    flag, _, value = shown.partition(" ")
    return flag_of(words, flag) != value if value else flag not in words


def command_of(recipe_name, stage="train"):
    _, layers, gpus, _ = RECIPES[recipe_name]
    recipe = read_recipe(recipe_name, TO_TRAIN)
    init_type = "default" if recipe_name == "multi30k_en-de" else "adaptive"
    settings = Settings(init_type, layers, 1111, "data", processes=gpus)
    return command.fairseq_train(recipe, settings, "out", "p", stage)


@pytest.mark.parametrize("recipe", RECIPES)
def test_our_command_has_the_flags_that_the_table_shows(recipe):
    words, wrong, seen = command_of(recipe), [], 0
    for _, ours, _ in rows(RECIPES[recipe][0], recipe):
        if ours.startswith("("):
            continue
        for shown in in_code(ours):
            if shown.startswith("--") and shown != "--remove-bpe":
                seen += 1
                wrong += [shown] if differs(words, shown) else []
    assert not wrong and seen >= 12


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_table_has_every_flag_of_the_authors_and_says_where_ours_differs(recipe):
    card, _, _, flags = RECIPES[recipe]
    table = rows(card, recipe)
    named = {shown.split()[0].split("=")[0] for theirs, _, _ in table for shown in in_code(theirs)}
    pairs = " ".join(theirs for theirs, _, _ in table)
    assert not [flag for flag in flags if flag not in named and flag not in pairs]
    for theirs, ours, verdict in table:
        assert verdict, (theirs, ours)
        same = [shown for shown in in_code(theirs) if shown.partition(" ")[0] in ours]
        for shown in same:
            flag, _, value = shown.partition(" ")
            number = flag_of(command_of(recipe), flag)
            if re.fullmatch(r"[\d.e-]+", value) and number is not None:
                assert float(value) == float(number), shown


@pytest.mark.parametrize("recipe", RECIPES)
def test_decoding_is_what_the_table_shows(recipe):
    table = rows(RECIPES[recipe][0], recipe)
    theirs, ours, _ = next(row for row in table if row[0].startswith("generate"))
    read = read_recipe(recipe, TO_TRAIN)
    beam, lenpen = read.get("evaluation", "beam"), read.get("evaluation", "lenpen")
    assert f"beam {beam}, lenpen {lenpen:g}" in ours and f"`--beam {beam}`" in theirs
    assert read.get("evaluation", "average") == 10


def test_the_profiling_stage_of_deepnmt_has_its_own_dropout():
    assert flag_of(command_of("wmt14_en-fr-deepnmt", "profile"), "--dropout") == "0.1"
    assert flag_of(command_of("wmt14_en-fr", "profile"), "--dropout") == "0.1"


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "multi30k_en-de"])
def test_recipes_for_gpus_save_between_epochs(recipe):
    words = command_of(recipe)
    assert 50 <= int(flag_of(words, "--save-interval-updates")) <= 2000
    assert flag_of(words, "--keep-interval-updates") == "1"
    assert "--no-epoch-checkpoints" not in words and flag_of(words, "--keep-last-epochs") == "10"
