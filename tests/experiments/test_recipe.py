"""Recipe files: finding them, and what is said of those that cannot be meant."""

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.recipe import (
    RECIPES,
    TO_PREPARE,
    TO_TRAIN,
    find_recipe,
    read_published,
    read_recipe,
    recipe_names,
)

CORPUS = """[data]
source = en
target = de
lowercase = no
train = train.{lang}
valid = every 5
test = test.{lang}
merges = 10
"""


def refused(path, text, needs=TO_PREPARE, **replaced):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AdminError) as error:
        read_recipe(path, needs, replaced)
    return str(error.value)


def test_a_recipe_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    own = tmp_path / "own.ini"
    own.write_text(CORPUS)
    monkeypatch.chdir(tmp_path)
    assert find_recipe("own.ini") == own.relative_to(tmp_path) and find_recipe(own) == own
    assert find_recipe("quickstart") == RECIPES / "quickstart.ini"
    # where earlier releases had them, and runs of theirs still name them
    assert find_recipe("/clone/nmt-experiments/recipes/iwslt14_de-en.ini").is_file()
    for word in ("none", "none.ini", "nmt-experiments/recipes/none.ini", tmp_path):
        with pytest.raises(AdminError) as error:
            find_recipe(word)
        assert str(word) in str(error.value)
        assert all(name in str(error.value) for name in recipe_names())


def test_a_recipe_may_be_for_preparing_alone_or_for_training_alone(tmp_path):
    path = tmp_path / "own.ini"
    path.write_text(CORPUS)
    assert read_recipe(path, TO_PREPARE).data.merges == 10
    assert "[model] arch is missing" in refused(path, CORPUS, TO_TRAIN)
    training = (RECIPES / "multi30k_en-de.ini").read_text(encoding="utf-8")
    training = training[training.index("[model]") :]
    path.write_text("[data]\nsource = en\ntarget = de\n" + training, encoding="utf-8")
    recipe = read_recipe(path, TO_TRAIN)
    assert recipe.depths == ["4-4", "12-12"] and not recipe.data.subsets
    with pytest.raises(AdminError, match="train is missing"):
        read_recipe(path, TO_PREPARE)


def test_mistakes_of_all_sections_are_said_at_once(tmp_path):
    text = CORPUS.replace("merges = 10", "merges = 0").replace("every 5", "every 0")
    text += "filter_on = letters\nratio = wide\nchecksums = onlyone\nnonsense = 1\n"
    text += "[model]\ndims = 1 / 2\n[published]\nadmin 6-6 = about 3\nmine 6-6 = 3, me\n"
    message = refused(tmp_path / "own.ini", text, news_commentary="v9")
    for part in (
        "[data] merges = 0: must be",
        "[data] valid = every 0: must be",
        "[data] filter_on = letters: must be",
        "[data] ratio = wide: must be",
        "[data] checksums = onlyone: must be",
        "[data] nonsense: no such key",
        "--news-commentary: this recipe has no such choice",
        "[model] dims = 1 / 2: must be",
        "[published] admin 6-6 = about 3: must be",
        "[published] mine 6-6",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("betas = 0.9", None),
        ("betas = 0.9 / 0.98 / 0.999", None),
        ("betas = 0.9 / 1", None),
        ("betas = 0.9 / 0.98", [0.9, 0.98]),
        ("no-warmup-lr = 1e-3, 3e-3", ["1e-3", "3e-3"]),
        ("no-warmup-lr = 1e-3 3e-3", ["1e-3", "3e-3"]),
        ("no-warmup-lr = 1e-3; 3e-3", None),
        ("no-warmup-beta2 =", None),
    ],
)
def test_numbers_of_the_training_section(line, expected, tmp_path):
    path = tmp_path / "own.ini"
    # a mark before the text, as editors on Windows put it
    path.write_bytes(f"\ufeff[training]\n{line}\n".encode())
    if expected is None:
        with pytest.raises(AdminError, match=f"{line.split(' =')[0]} = .*: must be"):
            read_recipe(path)
    else:
        assert read_recipe(path).get("training", line.split(" =")[0]) == expected


def test_contradictions_in_the_data_section(tmp_path):
    path = tmp_path / "own.ini"
    assert "N pairs, but generator is missing" in refused(
        path, CORPUS.replace("train.{lang}", "30 pairs")
    )
    message = refused(path, CORPUS + "generator = numbers_and_dates\n")
    assert "[data] train, test: must be N pairs" in message
    message = refused(path, CORPUS + "tokenise = no\naggressive = yes\nnormalise = train\n")
    assert "aggressive: goes with tokenise = yes" in message and "normalise: goes" in message
    generated = CORPUS.replace("train.{lang}", "30 pairs").replace("test.{lang}", "3 pairs")
    generated = generated.replace("target = de", "target = fr")
    message = refused(path, generated + "generator = numbers_and_dates\n")
    assert "numbers_and_dates is en-de or de-en" in message


def test_a_published_number_may_be_of_unknown_settings(tmp_path):
    path = tmp_path / "own.ini"
    path.write_text("[published]\nadmin 6-6 = 1.5, me; settings unknown\npre-ln 6-6 = 2, me\n")
    found = read_published(path)
    unknown, known = found["adaptive", "6-6"], found["pre-ln", "6-6"]
    assert (unknown.source, unknown.settings_known) == ("me", False)
    assert (known.source, known.settings_known) == ("me", True)
    assert (str(unknown), str(known)) == ("1.5 (settings unknown)", "2")


def test_published_init_types_have_all_their_words(tmp_path):
    path = tmp_path / "own.ini"
    path.write_text("[published]\nadmin 6-6 = 1.5, me\npost-ln 6-6 = failed, me\n")
    found = read_published(path)
    assert {cell: paper.number for cell, paper in found.items()} == {
        ("adaptive", "6-6"): "1.5",
        ("default", "6-6"): "failed",
    }
    assert "adaptive 6-6 appears twice" in refused(
        path, "[published]\nadmin 6-6 = 1, me\nadaptive 6-6 = 2, me\n", needs=()
    )
