"""How checks are run, and what they return; nothing here imports torch."""

import time
from dataclasses import dataclass, field


class Skipped(Exception):
    """A check that cannot be made here; the text says why."""


@dataclass(frozen=True)
class Settings:
    """What every check gets.

    Attributes:
        device: ``cuda``, or ``cpu``: a rehearsal with small models.
        work: a folder for corpora and trainings; absolute.
        data: a folder of fairseq-preprocess's, absolute; None: a generated corpus.
        deadline: when to be done, by ``time.time()``.
    """

    device: str
    work: str
    data: str | None = None
    deadline: float = float("inf")

    @property
    def small(self):
        return self.device == "cpu"

    @property
    def left(self):
        """The seconds until the deadline."""
        return self.deadline - time.time()


@dataclass
class Result:
    """What a check found.

    Attributes:
        compared: what with what.
        figure: what came out.
        passed: None where there is nothing to pass: a measurement.
        tolerance: what the figure may be; empty where there is nothing to pass.
        details: further lines.
    """

    compared: str
    figure: str
    passed: bool | None = None
    tolerance: str = ""
    details: list = field(default_factory=list)


def limited(compared, value, limit, figure="", details=()):
    """Return the result of a number that must not be larger than a limit; NaN is."""
    shown = f"{value:.2g}" + (f" ({figure})" if figure else "")
    return Result(compared, shown, bool(value <= limit), f"at most {limit:g}", list(details))


def only_on_a_gpu(settings, what):
    if settings.device != "cuda":
        raise Skipped(f"{what} needs a GPU")
