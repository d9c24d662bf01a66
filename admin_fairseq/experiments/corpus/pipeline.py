"""The stages of a corpus, one after the other: fetch, raw, tokenise, split and filter, BPE, binarise."""

import functools
import logging
import os

from ...errors import AdminError, raise_all
from . import binarise, bpe
from .download import compare, download
from .formats import DAMAGE, damaged, read_archive, read_text
from .manifest import Archive
from .parallel import ordered_map
from .progress import read_lines, shown
from .recipe import applies
from .text import Tokenising, keeps, tokenise_lines
from .unpacked import unpacked_sha256

log = logging.getLogger(__name__)
# A filter that counts sacremoses' tokens may keep some other lines than one that counts perl Moses': a difference
# from the published count of up to this share is told, a larger one means other text or other settings and stops.
TOLERANCE = 0.005


class Preparation:
    """Makes data-bin of a recipe in the folder of ``stages``; every stage that is done already is passed over."""

    def __init__(self, recipe, stages, manifest, from_folder=None, jobs=1):
        self.recipe, self.stages, self.manifest = recipe, stages, manifest
        self.from_folder, self.jobs = from_folder, jobs
        self.langs = (recipe.source, recipe.target)
        self.at = {
            subset: "tok" for subset in recipe.final_subsets
        }  # subset -> folder of its newest text
        self.files = {}  # name of an archive or text -> (path, its key among the stages)

    def run(self):
        self.fetch()
        for subset in self.recipe.subsets:
            self.unpack(subset)
        for subset in self.recipe.subsets:
            for lang in self.langs:
                self.tokenise(subset, lang)
        self.select()
        codes = self.learn()
        for subset in self.recipe.final_subsets:
            for lang in self.langs:
                self.segment(subset, lang, codes)
            self.at[subset] = "bpe"
        if self.recipe.filter_on == "bpe":
            for subset in self.recipe.filter:
                self.clean(subset)
        binarise.run(self.stages, self.recipe, self.at, self.jobs)

    # ------------------------------------------------------------------------------------------------- archives

    def fetch(self):
        wanted = self._archives()
        paths = {name: self._locate(archive) for name, archive in wanted.items()}
        raise_all(
            f"--from {self.from_folder}:",
            [f"neither {name} nor {name[:-3]} is there" if name.endswith(".gz") else f"{name} is not there"
             for name, path in paths.items() if path is None],
        )  # fmt: skip
        problems = []
        for name, archive in wanted.items():
            path = paths[name]
            if not os.path.exists(path):
                log.info("downloading %s", name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                download(archive, path)
            text = os.path.basename(path).removesuffix(".gz")
            settings = {"manifest": vars(archive), "text": self.recipe.checksums.get(text)}
            try:
                key = self.stages.adopt(
                    f"fetch-{name}", path, settings, functools.partial(self._check, archive)
                )
                self.files[name] = (path, key)
            except AdminError as error:
                problems.append(str(error))
        raise_all(
            "these are not the files that the recipe means; remove or replace them:", problems
        )

    def _archives(self):
        wanted = {}
        for source in (source for sources in self.recipe.subsets.values() for source in sources):
            names = (
                [source.archive]
                if source.archive
                else [source.names(*side)[0] for side in self.recipe.sides]
            )
            for name in names:
                if name not in self.manifest and not self.recipe.url:
                    raise AdminError(
                        f"[data]: {name} is neither in manifest.ini nor below a url"
                    )
                wanted[name] = self.manifest.get(name) or Archive(
                    name, (f"{self.recipe.url}/{name}",)
                )
        return wanted

    def _locate(self, archive):
        if not self.from_folder:
            return str(self.stages.folder / "download" / archive.name)
        names = [archive.name] + ([archive.name[:-3]] if archive.name.endswith(".gz") else [])
        found = [os.path.join(self.from_folder, name) for name in names]
        return next((path for path in found if os.path.isfile(path)), None)

    def _check(self, archive, path):
        """Return the sha256 of a file that is what is published; of a text that has a checksum, unpacked."""
        # what is published is of the archive; a text that the user unpacked has only the recipe's checksum
        difference = compare(archive, path) if os.path.basename(path) == archive.name else None
        if difference:
            raise AdminError(f"{path}: FAILED: {difference}")
        text = os.path.basename(path).removesuffix(".gz")
        published = self.recipe.checksums.get(text)
        try:
            digest = unpacked_sha256(path)
        except DAMAGE as error:
            raise damaged(path, error) from None
        if published and digest != published:
            raise AdminError(f"{text}: FAILED: its sha256 differs from the recipe's")
        return digest

    # ------------------------------------------------------------------------------------------------- texts

    def unpack(self, subset):
        """raw/SUBSET.LANG: the texts of all sources, one after the other, checked side against side."""
        sources = self.recipe.subsets[subset]
        inputs = [self.files[name][1] for source in sources for name in self._names(source)]
        settings = [[source.archive, list(source.members), self.langs] for source in sources]
        outputs = [f"raw/{subset}.{lang}" for lang in self.langs]
        self.stages.run(
            f"raw-{subset}",
            inputs,
            outputs,
            settings,
            functools.partial(self._unpack, subset, sources),
        )
        if not (subset in self.recipe.filter or (subset == "train" and self.recipe.valid_every)):
            self.compare_counts(subset, self.stages.lines(outputs[0]), exact=True)

    def _names(self, source):
        return (
            [source.archive]
            if source.archive
            else [source.names(*side)[0] for side in self.recipe.sides]
        )

    def _unpack(self, subset, sources, *outputs):
        by_lang = dict(zip(self.langs, outputs))
        for source in sources:
            before = {lang: output.lines for lang, output in by_lang.items()}
            for lang, line in shown(self._lines(source), f"unpack {subset}"):
                by_lang[lang].line(line)
            counts = {lang: output.lines - before[lang] for lang, output in by_lang.items()}
            where = f"{source.archive or ''} {source.members[0]}".strip()
            if 0 in counts.values():
                raise AdminError(f"{where}: empty: {_counts(counts)}")
            if len(set(counts.values())) > 1:
                raise AdminError(f"{where}: the sides are not aligned: {_counts(counts)}")

    def _lines(self, source):
        if source.archive:
            wanted = {lang: source.names(lang, side) for lang, side in self.recipe.sides}
            yield from read_archive(self.files[source.archive][0], wanted)
        else:
            for lang, side in self.recipe.sides:
                path = self.files[source.names(lang, side)[0]][0]
                yield from ((lang, line) for line in read_text(path))

    def tokenise(self, subset, lang):
        recipe, source = self.recipe, f"raw/{subset}.{lang}"
        how = Tokenising(
            lang=lang,
            apostrophes=applies(subset, recipe.apostrophes),
            normalise=applies(subset, recipe.normalise),
            printable=applies(subset, recipe.printable),
            aggressive=recipe.aggressive,
            lowercase=recipe.lowercase,
        )
        convert = functools.partial(tokenise_lines, how)
        self.convert(
            f"tok-{subset}.{lang}", source, f"tok/{subset}.{lang}", [source], vars(how), convert
        )

    def convert(self, name, source, target, inputs, settings, convert):
        """A stage that makes one line of each line, in parallel."""

        def make(output):
            lines = read_lines(self.stages.folder / source)
            for line in shown(
                ordered_map(convert, lines, self.jobs), name, self.stages.lines(source)
            ):
                output.line(line)
            if output.lines != self.stages.lines(source):
                raise AdminError(
                    f"{name}: {self.stages.lines(source)} lines went in, {output.lines} came out"
                )

        self.stages.run(name, inputs, [target], settings, make)

    # ------------------------------------------------------------------------------------------------- choice of lines

    def select(self):
        """split/: train without what the filter drops and without every n-th line, which is valid."""
        recipe = self.recipe
        filtered = recipe.filter if recipe.filter_on == "tokens" else ()
        if "valid" in filtered and not recipe.valid_every:
            self._select("valid", ["valid"], True, None)
        if "train" in filtered or recipe.valid_every:
            targets = ["train", "valid"] if recipe.valid_every else ["train"]
            self._select("train", targets, "train" in filtered, recipe.valid_every)

    def clean(self, subset):
        """clean/SUBSET: what the filter leaves of bpe/SUBSET."""
        self._select(subset, [subset], True, None, "clean")

    def _select(self, subset, targets, filtered, every, folder="split"):
        recipe, start = self.recipe, self.at[subset]
        inputs = [f"{start}/{subset}.{lang}" for lang in self.langs]
        outputs = [f"{folder}/{target}.{lang}" for target in targets for lang in self.langs]
        settings = {
            "every": every,
            "length": recipe.length,
            "ratio": recipe.ratio,
            "filtered": filtered,
        }

        def make(*files):
            kept = 0
            sides = [read_lines(self.stages.folder / path) for path in inputs]
            for pair in shown(zip(*sides), f"{folder} {subset}", self.stages.lines(inputs[0])):
                if filtered and not keeps(*pair, recipe.length, recipe.ratio):
                    continue
                kept += 1
                first = (
                    2 if every and kept % every == 0 else 0
                )  # the files of valid follow those of train
                for output, line in zip(files[first:], pair):
                    output.line(line)
            if not all(file.lines for file in files):
                raise AdminError(
                    f"{folder} {subset}: no pair is left for {' or '.join(targets)} of {kept} kept"
                )

        self.stages.run(f"{folder}-{subset}", inputs, outputs, settings, make)
        for target in targets:
            self.at[target] = folder
            if folder == "clean" or recipe.filter_on == "tokens":
                self.compare_counts(
                    target, self.stages.lines(f"{folder}/{target}.{recipe.source}"), exact=False
                )

    def compare_counts(self, subset, found, exact):
        published = self.recipe.published_lines.get(subset)
        if published is None or found == published:
            return
        message = f"{subset} has {found:,} lines, {found - published:+,} from the {published:,} that are published"
        if exact or abs(found - published) > TOLERANCE * published:
            raise AdminError(
                f"{message}: this is other text, or other settings (published_lines in the recipe)"
            )
        log.warning(
            "%s: sacremoses splits some words otherwise than perl Moses, and the filter counts tokens",
            message,
        )

    # ------------------------------------------------------------------------------------------------- BPE

    def learn(self):
        inputs = [f"{self.at['train']}/train.{lang}" for lang in self.langs]
        return bpe.learn(self.stages, inputs, self.recipe.merges)

    def segment(self, subset, lang, codes):
        source = f"{self.at[subset]}/{subset}.{lang}"
        convert = bpe.segmenter(self.stages, codes)
        self.convert(
            f"bpe-{subset}.{lang}", source, f"bpe/{subset}.{lang}", [source, codes], {}, convert
        )


def _counts(counts):
    return ", ".join(f"{lang} has {count} lines" for lang, count in counts.items())
