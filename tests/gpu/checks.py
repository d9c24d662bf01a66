"""The table of checks: their names, and in which order and company they run."""

import functools
from fnmatch import fnmatch

from tests.gpu import commands, header, numbers, speed


def _named(function, **arguments):
    return functools.partial(function, **arguments)


def _by_precision(name, function, precisions):
    return {f"{name}-{word}": _named(function, precision=word) for word in precisions.split()}


NUMBERS = {
    **_by_precision("profile", numbers.profile, "fp32 fp16 bf16 amp"),
    "recorded-omegas": numbers.recorded_omegas,
    "recorded-outputs": numbers.recorded_outputs,
    **_by_precision("omega-1", numbers.identity, "fp32 fp16 bf16 amp"),
    **_by_precision("loss", numbers.loss, "fp32 fp16 bf16 amp"),
    **_by_precision("adam", numbers.adam, "fp32 fp16 bf16 memory-efficient-bf16"),
    **_by_precision("training", numbers.training, "fp32 fp16 bf16 amp"),
    "amp-scale": numbers.amp_scale,
    **_by_precision("synchronisations", speed.synchronisations, "fp32 bf16"),
}
COMMANDS = {
    "two-stages": commands.two_stages,
    "auto": commands.auto,
    "resume": commands.resume,
    "generate": commands.generate,
    "generate-fp16": commands.generate_half,
    "fold": commands.fold,
}
SOME = ("fairseq", "admin", "criterion, fused Adam")
# these are measured, and have the GPU for themselves
SPEED = {
    "timing-18-18-bf16": _named(speed.timing, shape="18-18", precision="bf16"),
    "timing-6-6-bf16": _named(speed.timing, shape="6-6", precision="bf16"),
    "launches-bf16": _named(speed.launches, precision="bf16"),
    "learning": commands.learning,
    # six models of this size, with what their optimizers keep, would be 30 GB
    "timing-60-12-bf16": _named(speed.timing, shape="60-12", precision="bf16", variants=SOME),
    "timing-18-18-fp32": _named(speed.timing, shape="18-18", precision="fp32"),
    "launches-fp32": _named(speed.launches, precision="fp32"),
    "timing-6-6-fp16": _named(speed.timing, shape="6-6", precision="fp16"),
    "timing-6-6-amp": _named(speed.timing, shape="6-6", precision="amp"),
}
CHECKS = {"header": header.machine, **NUMBERS, **COMMANDS, **SPEED}
PHASES = [[["header"]], [list(NUMBERS), list(COMMANDS)], [list(SPEED)]]


def chosen(patterns):
    """Return :data:`PHASES` with the checks that match one of some patterns, and the header."""
    phases = []
    for phase in PHASES:
        lanes = []
        for lane in phase:
            kept = []
            for name in lane:
                if name == "header" or any(fnmatch(name, pattern) for pattern in patterns):
                    kept.append(name)
            lanes.append(kept)
        phases.append([lane for lane in lanes if lane])
    return [phase for phase in phases if phase]
