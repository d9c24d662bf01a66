"""The files that a recipe names: found, or downloaded, and compared with what is published."""

import functools
import logging
import os
from typing import NamedTuple, Optional

from ...errors import AdminError, raise_all
from .download import compare, download
from .formats import DAMAGE, damaged
from .manifest import Archive
from .recipe import Corpus, Source
from .stages import Stages
from .unpacked import unpacked_sha256

log = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """Where a file is, and the key by which the stages know its content."""

    path: str
    key: str


def names(corpus: Corpus, source: Source) -> list[str]:
    """Return the files that a source needs: its archive, or a text for each language."""
    if source.archive:
        return [source.archive]
    return [source.names(lang, side)[0] for lang, side in corpus.sides]


def fetch(
    corpus: Corpus, stages: Stages, manifest: dict[str, Archive], from_folder: Optional[str]
) -> dict[str, Fetched]:
    """Return name -> :class:`Fetched` for all files of a corpus, downloaded unless they are there.

    Args:
        corpus: the [data] section of a recipe.
        stages: of the folder into which files are downloaded.
        manifest: name -> what is known of an archive.
        from_folder: the folder that has the files; nothing is downloaded then.

    Raises:
        AdminError: naming the files that are missing, or not those that the recipe means.
    """
    archives = archives_of(corpus, manifest, downloaded=not from_folder)
    paths = locate(archives, stages, from_folder)
    found, problems = {}, []
    for name, archive in archives.items():
        path = paths[name]
        if not os.path.exists(path):
            log.info("downloading %s", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            download(archive, path)
        published = {key: value for key, value in vars(archive).items() if key != "known"}
        settings = {"manifest": published, "text": corpus.checksums.get(_unpacked(path))}
        check = functools.partial(_check, corpus, archive)
        try:
            key = stages.adopt(f"fetch-{name}", path, settings, check)
        except AdminError as error:
            problems.append(str(error))
        else:
            found[name] = Fetched(path, key)
    raise_all("these are not the files that the recipe means; remove or replace them:", problems)
    return found


def archives_of(
    corpus: Corpus, manifest: dict[str, Archive], downloaded: bool
) -> dict[str, Archive]:
    """Return name -> what is known of the files of a corpus.

    Raises:
        AdminError: if one has to be ``downloaded``, and no address is known.
    """
    found = {}
    for sources in corpus.subsets.values():
        for source in sources:
            for name in names(corpus, source):
                if name in manifest:
                    found[name] = manifest[name]
                elif corpus.url:
                    found[name] = Archive(name, (f"{corpus.url}/{name}",))
                elif downloaded:
                    raise AdminError(
                        f"{name} is not in the manifest, and [data] of the recipe has no url; "
                        "name the folder that holds it: --from DIR"
                    )
                else:
                    found[name] = Archive(name, ())
    return found


def locate(
    archives: dict[str, Archive], stages: Stages, from_folder: Optional[str]
) -> dict[str, str]:
    """Return name -> path; with ``from_folder``, of a file that exists, perhaps unpacked.

    Raises:
        AdminError: naming the files that are not in ``from_folder``.
    """
    if not from_folder:
        return {name: str(stages.folder / "download" / name) for name in archives}
    paths, problems = {}, []
    for name in archives:
        path = os.path.join(from_folder, name)
        unpacked = path.removesuffix(".gz")
        if os.path.isfile(path):
            paths[name] = path
        elif os.path.isfile(unpacked):
            paths[name] = unpacked
        elif name.endswith(".gz"):
            problems.append(f"neither {name} nor {name.removesuffix('.gz')} is there")
        else:
            problems.append(f"{name} is not there")
    raise_all(f"--from {from_folder}:", problems)
    return paths


def _unpacked(path: str) -> str:
    return os.path.basename(path).removesuffix(".gz")


def _check(corpus: Corpus, archive: Archive, path: str) -> str:
    """Return the sha256 of a file, of a packed text unpacked, if it is what is published."""
    # what is published is of the archive; a text that the user unpacked has only the recipe's sum
    if os.path.basename(path) == archive.name:
        difference = compare(archive, path)
        if difference:
            raise AdminError(f"{path}: FAILED: {difference}")
    try:
        digest = unpacked_sha256(path)
    except DAMAGE as error:
        raise damaged(path, error) from None
    text = _unpacked(path)
    if corpus.checksums.get(text, digest) != digest:
        raise AdminError(f"{text}: FAILED: its sha256 differs from the recipe's")
    return digest
