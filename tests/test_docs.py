"""The pages: links lead somewhere, commands can be pasted, and no flag or method is left out."""

import re
import shlex
from pathlib import Path

import pytest

from admin_fairseq import cli
from admin_fairseq.experiments.corpus.recipe import _KEYS as DATA_KEYS
from admin_fairseq.experiments.recipe import KEYS, TO_PREPARE, TO_TRAIN, read_recipe
from admin_fairseq.init_types import METHODS
from admin_fairseq.options import ADMIN_FLAGS
from tests.helpers import REPOSITORY

PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("nmt-experiments/*.md"),
    ]
)
FOLDERS = ("admin_fairseq", "docs", "nmt-experiments", "scripts", "tests")
# what a page may name though a plain clone lacks it: paths of earlier releases
GONE = {
    "CHANGELOG.md": {
        "scripts/score.py",
        "scripts/plot_curves.py",
        "scripts/compare_init_types.py",
        "scripts/moses.py",
        "scripts/make_corpus.py",
        "nmt-experiments/recipes/NAME.ini",
    }
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def read(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def without_code(text):
    """Return a page's text without its fenced blocks; indented ones stay."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def code_lines(text):
    """Return the lines of a page's code, fenced and indented."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M):
        found += block.splitlines()
    found += re.findall(r"^    (.*)$", without_code(text), re.M)
    return found


def anchors(text):
    """Return the names that a host gives a page's headings."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", without_code(text), re.M):
        heading = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.append(kept.replace(" ", "-"))
    return found


def links(text):
    return re.findall(r"\]\(([^)\s]+)\)", without_code(text))


@every_page
def test_every_link_leads_somewhere(page):
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if (
            not target.exists()
            or anchor
            and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    assert not broken


@every_page
def test_code_can_be_pasted(page):
    """No dots that stand for flags or files."""
    dots = [
        line
        for line in code_lines(page.read_text(encoding="utf-8"))
        if re.search(r"\.\.\.|…", line)
    ]
    assert not dots


@every_page
def test_every_path_in_backticks_exists(page):
    missing = []
    for name in re.findall(r"`([^`\s]+/[^`\s]*)`", without_code(page.read_text(encoding="utf-8"))):
        if name.split("/")[0] not in FOLDERS or name in GONE.get(page.name, ()):
            continue
        if not any(REPOSITORY.glob(name.rstrip("/"))):
            missing.append(name)
    assert not missing


@every_page
def test_scripts_in_commands_exist(page):
    words = [
        word
        for line in code_lines(page.read_text(encoding="utf-8"))
        for word in re.findall(r"\bscripts/[\w\-./]+", line)
    ]
    assert not [word for word in words if not (REPOSITORY / word).is_file()]


def own_commands(page):
    """Return the ``admin-fairseq`` commands of a page, as words; those of analyze are not ours."""
    text = "\n".join(code_lines(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # a part of another language
        if "admin-fairseq" in words:
            words = words[words.index("admin-fairseq") + 1 :]
            ends = [at for at, word in enumerate(words) if re.match(r"(\d?>|\||&&|;)", word)]
            # a number stands for a shell's variable
            words = ["7" if word == "$seed" else word for word in words[: min([*ends, len(words)])]]
            if words[:1] not in ([], ["analyze"]):
                found.append(words)
    return found


def test_the_tools_own_commands_can_be_parsed(capsys):
    refused, seen = [], 0
    for page in PAGES:
        for words in own_commands(page):
            seen += 1
            try:
                cli._parse(words)
            except SystemExit:
                refused.append((page.name, words, capsys.readouterr().err.splitlines()[-1]))
    assert not refused and seen > 40


def test_the_readme_is_one_page():
    assert len(read("README.md").splitlines()) <= 170
    assert "bash scripts/test.sh" in read("README.md")


def test_every_page_is_named_in_the_readme():
    named = {Path(link.partition("#")[0]).as_posix() for link in links(read("README.md"))}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= named


def test_every_flag_is_described():
    page = read("docs/flags.md")
    flags = ["--" + name.replace("_", "-") for name in ADMIN_FLAGS]
    assert flags and not [flag for flag in flags if not re.search(rf"`{flag}[` ]", page)]


def test_every_word_of_a_method_is_described():
    page = read("docs/init_types.md")
    words = [word for method in METHODS for word in method.words]
    assert not [word for word in words if f"`{word}`" not in page]
    assert not [method.label for method in METHODS if f"| {method.label} |" not in page]


def test_every_key_of_a_recipe_is_described():
    page = read("docs/experiments.md")
    sections = {"data": list(DATA_KEYS), **{name: list(keys) for name, keys in KEYS.items()}}
    for section, keys in sections.items():
        text = page.split(f"\n### [{section}]\n")[1].split("\n### ")[0]
        assert not [key for key in keys if f"`{key}`" not in text], section


def test_the_example_of_a_recipe_is_whole(tmp_path):
    (example,) = re.findall(r"```ini\n(.*?)```", read("docs/experiments.md"), re.S)
    path = tmp_path / "my_corpus.ini"
    path.write_text(example)
    recipe = read_recipe(path, (*TO_PREPARE, *TO_TRAIN))
    assert recipe.depths == ["12-12", "6-6"] and recipe.data.final_subsets == [
        "train",
        "valid",
        "test",
    ]
