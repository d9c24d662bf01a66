"""The lines of all tables as comma-separated values, with plain numbers for other programs."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from .sections import COMMON_LOSS, Section
from .tables import MEASURES, Line

_SHARED = ["data", "variant", "subset", "averaged", "decoding"]
_COUNTS = ["n_seeds_run", "n_diverged", "seeds", "common_loss"]
_PUBLISHED = ["published_mean", "published_sd", "published_failed", "published_source"]
_PUBLISHED += ["settings_known"]


def render(sections: Sequence[Section]) -> str:
    """Return one line for each method and depth of each section; numbers are not rounded.

    ``MEASURE_mean``, ``_sd`` and ``_n`` are of the seeds that did not diverge; what does not apply
    is empty. ``seeds`` and ``updates_to_common_loss`` hold a text for each seed, between
    semicolons; so do columns such as ``updates_to_0.5_bits``, where such losses were asked for.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, _columns(sections), lineterminator="\n")
    writer.writeheader()
    for section in sections:
        for line in section.lines:
            writer.writerow({**section.key._asdict(), **_values(section, line)})
    return file.getvalue()


def _columns(sections: Sequence[Section]) -> list[str]:
    columns = [*_SHARED, "depth", "method"]
    for measure in MEASURES:
        columns += [f"{measure}_mean", f"{measure}_sd", f"{measure}_n"]
    # the common loss is a column always: programs find it where no run has a curve
    targets = [COMMON_LOSS, *(target for section in sections for target in section.targets)]
    return [*columns, *_COUNTS, *dict.fromkeys(map(_column, targets)), *_PUBLISHED]


def _column(target: str) -> str:
    return "updates_to_" + target.removeprefix("the ").replace(" ", "_")


def _values(section: Section, line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {"depth": line.depth, "method": line.method}
    for measure, mean in line.means.items():
        values[f"{measure}_mean"] = mean.mean
        values[f"{measure}_sd"] = mean.sd
        values[f"{measure}_n"] = len(mean.values)
    values["n_seeds_run"] = len(line.seeds)
    values["n_diverged"] = line.diverged
    values["seeds"] = ";".join(str(seed) for seed in line.seeds)
    values["common_loss"] = section.common_loss
    for target, updates in line.updates.items():
        values[_column(target)] = ";".join(updates)
    if line.published:
        failed = line.published.number == "failed"
        # as printed, such as 35.64 ± 0.23: a number keeps its digits
        number, _, sd = line.published.number.partition(" ± ")
        values["published_mean"] = "" if failed else number
        values["published_sd"] = sd
        values["published_failed"] = int(failed)
        values["published_source"] = line.published.source
        values["settings_known"] = int(line.published.settings_known)
    return values
