"""The stages of a corpus: raw text, tokenise, split and filter, BPE, binarise."""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Optional

from ...errors import AdminError
from . import binarise, bpe
from .clean import Cleaner
from .fetch import Fetched, fetch, names
from .formats import read_archive, read_text
from .generate import generate
from .manifest import Archive
from .parallel import ordered_map
from .progress import read_lines, shown
from .recipe import Corpus, Source, applies
from .slices import convert_slice, slices
from .stages import Output, Stages
from .text import Tokenising, tokenise_lines

log = logging.getLogger(__name__)
# Moses' Perl scripts of before and since 2018, and sacremoses, split some lines into different
# numbers of tokens, so that a filter that counts tokens keeps other lines. A difference from the
# published count of up to this share is logged; a larger one is other text or settings, and stops.
TOLERANCE = 0.005


def _line_feeds(text: str) -> int:
    return text.count("\n")


class Preparation:
    """Makes the data-bin of a corpus in the folder of ``stages``; stages that are done are skipped.

    Args:
        corpus: the [data] section of a recipe.
        stages: of the folder, whose lock the caller holds.
        manifest: name -> what is known of an archive.
        from_folder: where the archives are; None downloads them.
        jobs: processes.
    """

    def __init__(
        self,
        corpus: Corpus,
        stages: Stages,
        manifest: dict[str, Archive],
        from_folder: Optional[str] = None,
        jobs: int = 1,
    ) -> None:
        self.corpus = corpus
        self.stages = stages
        self.manifest = manifest
        self.from_folder = from_folder
        self.jobs = jobs
        self.at: dict[str, str] = {}  # subset -> folder of its newest text
        self.files: dict[str, Fetched] = {}

    def run(self) -> None:
        """Make everything that is not made yet.

        Raises:
            AdminError: if a text is not what the recipe means, or a stage fails.
        """
        self.make_raw()
        if self.corpus.tokenise:
            for subset in self.corpus.raw_subsets:
                for lang in self.corpus.languages:
                    self.tokenise(subset, lang)
                self.at[subset] = "tok"
        self.select()
        codes = self.learn()
        for subset in self.corpus.final_subsets:
            for lang in self.corpus.languages:
                self.segment(subset, lang, codes)
            self.at[subset] = "bpe"
        if self.corpus.filter_on == "bpe":
            for subset in self.corpus.filter:
                self.clean(subset)
        binarise.run(self.stages, self.corpus, self.at, self.jobs)

    # raw text

    def make_raw(self) -> None:
        """raw/SUBSET.LANG: the texts as they are published, or generated."""
        if self.corpus.generator:
            generate(self.corpus, self.stages)
        else:
            self.files = fetch(self.corpus, self.stages, self.manifest, self.from_folder)
            for subset in self.corpus.subsets:
                self.unpack(subset)
        for subset in self.corpus.raw_subsets:
            self.at[subset] = "raw"

    def unpack(self, subset: str) -> None:
        """Join the texts of all sources, and compare the sides."""
        corpus, sources = self.corpus, self.corpus.subsets[subset]
        inputs = []
        settings = []
        for source in sources:
            inputs += [self.files[name].key for name in names(corpus, source)]
            settings.append([source.archive, source.members, corpus.languages])
        if corpus.exact:
            settings.append(["exact"])
        outputs = corpus.paths("raw", subset)

        def make(*files: Output) -> None:
            by_lang = dict(zip(corpus.languages, files))
            for source in sources:
                self._append(subset, source, by_lang)

        self.stages.run(f"raw-{subset}", inputs, outputs, settings, make)
        split = subset == "train" and corpus.valid_every is not None
        if not split and subset not in corpus.filter:
            self.compare_counts(subset, self.stages.lines(outputs[0]), exact=True)

    def _append(self, subset: str, source: Source, outputs: dict[str, Output]) -> None:
        before = {lang: output.lines for lang, output in outputs.items()}
        for lang, line in shown(self._lines(source), f"unpack {subset}"):
            outputs[lang].line(line)
        counts = {lang: output.lines - before[lang] for lang, output in outputs.items()}
        told = ", ".join(f"{lang} has {count} lines" for lang, count in counts.items())
        where = f"{source.archive or ''} {source.members[0]}".strip()
        if 0 in counts.values():
            raise AdminError(f"{where}: empty: {told}")
        if len(set(counts.values())) > 1:
            raise AdminError(f"{where}: the sides are not aligned: {told}")

    def _lines(self, source: Source) -> Iterator[tuple[str, str]]:
        """Yield (language, line) of a source."""
        if source.archive:
            wanted = {lang: source.names(lang, side) for lang, side in self.corpus.sides}
            yield from read_archive(self.files[source.archive].path, wanted, self.corpus.exact)
            return
        for lang, side in self.corpus.sides:
            path = self.files[source.names(lang, side)[0]].path
            for line in read_text(path, self.corpus.exact):
                yield lang, line

    # one line of each line

    def tokenise(self, subset: str, lang: str) -> None:
        """tok/SUBSET.LANG of raw/."""
        corpus, source = self.corpus, f"raw/{subset}.{lang}"
        how = Tokenising(
            lang=lang,
            apostrophes=applies(subset, corpus.apostrophes),
            normalise=applies(subset, corpus.normalise),
            printable=applies(subset, corpus.printable),
            aggressive=corpus.aggressive,
            lowercase=corpus.lowercase,
            tokeniser=corpus.tokeniser,
            escape=corpus.escape,
        )
        convert = functools.partial(tokenise_lines, how)
        self.convert(source, f"tok/{subset}.{lang}", [source], vars(how), convert)

    def convert(
        self,
        source: str,
        target: str,
        inputs: Sequence[str],
        settings: object,
        convert: Callable[[list[str]], list[str]],
    ) -> None:
        """Run a stage that makes one line of each line of ``source``, in parallel."""
        name, count = target.replace("/", "-"), self.stages.lines(source)

        def make(output: Output) -> None:
            parts = slices(self.stages.folder / source)
            texts = ordered_map(functools.partial(convert_slice, convert), parts, self.jobs)
            for text in shown(texts, name, count, lines=_line_feeds):
                output.write(text)
            if output.lines != count:
                raise AdminError(f"{name}: {count} lines went in, {output.lines} came out")

        self.stages.run(name, inputs, [target], settings, make)

    # choice of lines

    def select(self) -> None:
        """split/: train without what the filter drops, and without every n-th line, for valid."""
        corpus = self.corpus
        filtered = corpus.filter if corpus.filter_on == "tokens" else ()
        if "valid" in filtered and not corpus.valid_every:
            self._select("valid", ["valid"], filtered=True)
        if "train" in filtered or corpus.valid_every:
            targets = ["train", "valid"] if corpus.valid_every else ["train"]
            self._select("train", targets, "train" in filtered, corpus.valid_every)

    def clean(self, subset: str) -> None:
        """clean/SUBSET: what the filter leaves of bpe/SUBSET."""
        self._select(subset, [subset], filtered=True, folder="clean")

    def _select(
        self,
        subset: str,
        targets: Sequence[str],
        filtered: bool,
        every: Optional[int] = None,
        folder: str = "split",
    ) -> None:
        corpus = self.corpus
        inputs = corpus.paths(self.at[subset], subset)
        outputs = []
        for target in targets:
            outputs += corpus.paths(folder, target)
        settings: dict[str, object] = {
            "every": every,
            "length": corpus.length,
            "ratio": corpus.ratio,
            "filtered": filtered,
        }
        if corpus.exact:
            settings["exact"] = True
        make = functools.partial(self._divide, subset, targets, filtered, every, folder)
        self.stages.run(f"{folder}-{subset}", inputs, outputs, settings, make)
        for target in targets:
            self.at[target] = folder
            if folder == "clean" or corpus.filter_on == "tokens":
                count = self.stages.lines(f"{folder}/{target}.{corpus.source}")
                self.compare_counts(target, count, exact=False)

    def _divide(
        self,
        subset: str,
        targets: Sequence[str],
        filtered: bool,
        every: Optional[int],
        folder: str,
        *files: Output,
    ) -> None:
        """Write what the filter keeps; ``files`` are a source and a target text per subset."""
        corpus = self.corpus
        texts = corpus.paths(self.at[subset], subset)
        sides = [read_lines(self.stages.folder / path) for path in texts]
        cleaner = Cleaner(corpus.length, corpus.ratio, corpus.exact)
        kept = 0
        for pair in shown(zip(*sides), f"{folder} {subset}", self.stages.lines(texts[0])):
            written = cleaner.clean(*pair) if filtered else pair
            if written is None:
                continue
            kept += 1
            first = 2 if every and kept % every == 0 else 0  # valid's files follow train's
            files[first].line(written[0])
            files[first + 1].line(written[1])
        if not all(file.lines for file in files):
            subsets = " or ".join(targets)
            raise AdminError(f"{folder} {subset}: no pair is left for {subsets} of {kept} kept")

    def compare_counts(self, subset: str, found: int, exact: bool) -> None:
        """Compare the lines of a subset with the published number, where the recipe has one."""
        published = self.corpus.published_lines.get(subset)
        if published is None or found == published:
            return
        message = (
            f"{subset} has {found:,} lines, {found - published:+,} from the {published:,} "
            "that are published"
        )
        if exact or abs(found - published) > TOLERANCE * published:
            raise AdminError(
                f"{message}: this is other text, or other settings (published_lines in the recipe)"
            )
        log.warning(
            "%s: tokenisers and their releases split some words differently, and the filter "
            "counts tokens",
            message,
        )

    # BPE

    def learn(self) -> str:
        """Learn joint BPE of the training text; return the path of the codes."""
        inputs = self.corpus.paths(self.at["train"], "train")
        return bpe.learn(self.stages, inputs, self.corpus.merges)

    def segment(self, subset: str, lang: str, codes: str) -> None:
        """bpe/SUBSET.LANG of the newest text."""
        convert = bpe.segmenter(self.stages, codes)
        source = f"{self.at[subset]}/{subset}.{lang}"
        self.convert(source, f"bpe/{subset}.{lang}", [source, codes], {}, convert)
