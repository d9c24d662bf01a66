"""Settings that cannot be trained, and flags of fairseq-train that are ours to set."""

from pathlib import Path

from ...errors import AdminError, raise_all
from ...init_types import METHODS, find_method
from ..recipe import RECIPES, Recipe
from .command import profile_of
from .settings import Settings
from .unigram import is_mmap

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
    problems += _wrong_data(recipe, settings)
    problems += _wrong_profile(recipe, settings)
    for word in settings.extra:
        if word.split("=")[0] in _RESERVED:
            problems.append(
                f"{word}: admin-fairseq sets it itself; use its own flag, where it has one"
            )
    raise_all("these settings cannot be trained:", problems)


def _wrong_data(recipe: Recipe, settings: Settings) -> list[str]:
    data_bin = Path(settings.data) / "data-bin"
    missing = []
    for lang in (recipe.source, recipe.target):
        name = f"dict.{lang}.txt"
        if not (data_bin / name).is_file():
            missing.append(name)
    if missing:
        return [
            f"--data {settings.data}: {data_bin} has no {' and no '.join(missing)}; prepare the "
            f"data first: admin-fairseq prepare {_word_of(recipe)}"
        ]
    index = data_bin / f"train.{recipe.source}-{recipe.target}.{recipe.target}.idx"
    if index.is_file() and not is_mmap(index):
        return [
            f"--data {settings.data}: is not of --dataset-impl mmap, so that a run could not be "
            "judged at its end; prepare it with fairseq-preprocess's default"
        ]
    return []


def _wrong_profile(recipe: Recipe, settings: Settings) -> list[str]:
    if not settings.profile:
        return []
    from ...profile import file as profile_file  # most runs measure theirs

    try:
        path = profile_of(recipe, settings, Path())
        if path is None:
            return [f"--profile: --init-type {settings.init_type} has no omegas to take from one"]
        profile_file.load(path)
    except AdminError as error:
        return [f"--profile {error}"]
    # results.tsv's variant is divided at spaces
    if len(settings.profile_name().split()) != 1:
        return [
            f"--profile {path}: its name becomes part of the run's: give it one, without spaces"
        ]
    return []


def _word_of(recipe: Recipe) -> str:
    return recipe.name if recipe.path.parent == RECIPES else str(recipe.path)
