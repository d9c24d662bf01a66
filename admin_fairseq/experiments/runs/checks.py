"""Settings that cannot be trained, and flags of fairseq-train that are ours to set."""

from pathlib import Path

from ...errors import AdminError, raise_all
from ...init_types import METHODS, find_method
from ..recipe import RECIPES, Recipe
from .settings import Settings

_RESERVED = (
    "--init-type",
    "--seed",
    "--save-dir",
    "--update-freq",
    "--max-tokens",
    "--encoder-layers",
    "--decoder-layers",
    "--admin-profile",
    "--restore-file",
    "--log-format",
    "--log-file",
)


def init_type_name(word: str) -> str:
    """Return the name of the method that a word of ``--init-type`` stands for.

    Raises:
        AdminError: if it stands for none, or for one of fairseq-train's stages of Admin.
    """
    method = find_method(word)
    if word in method.measuring:
        raise AdminError(
            f"--init-type {word}: is a stage of fairseq-train's own; say --init-type {method.name}"
            ": the profile is then measured first, by itself, and shared by all runs of the model"
        )
    return method.name


def init_type_words() -> str:
    """Return what ``--init-type`` of our commands takes, for their help."""
    return ", ".join(" or ".join((method.name, *method.aliases)) for method in METHODS)


def check(recipe: Recipe, settings: Settings) -> None:
    """Refuse settings that cannot be trained.

    Raises:
        AdminError: naming every one.
    """
    problems = []
    try:
        init_type_name(settings.init_type)
    except AdminError as error:
        problems.append(str(error))
    if settings.no_warmup and recipe.get("training", "no-warmup-updates") is None:
        problems.append("--no-warmup: the recipe has no no-warmup-updates")
    problems += _missing_dictionaries(recipe, settings)
    for word in settings.extra:
        if word.split("=")[0] in _RESERVED:
            problems.append(
                f"{word}: admin-fairseq sets it itself; use its own flag, where it has one"
            )
    raise_all("these settings cannot be trained:", problems)


def _missing_dictionaries(recipe: Recipe, settings: Settings) -> list[str]:
    data_bin = Path(settings.data) / "data-bin"
    missing = []
    for lang in (recipe.source, recipe.target):
        name = f"dict.{lang}.txt"
        if not (data_bin / name).is_file():
            missing.append(name)
    if not missing:
        return []
    return [
        f"--data {settings.data}: {data_bin} has no {' and no '.join(missing)}; prepare the data "
        f"first: admin-fairseq prepare {_word_of(recipe)}"
    ]


def _word_of(recipe: Recipe) -> str:
    return recipe.name if recipe.path.parent == RECIPES else str(recipe.path)
