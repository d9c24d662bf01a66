"""What must be there before the plugin registers, and what to say where it is not."""

import importlib.util
import logging
import platform
import re
import sys

from .errors import AdminError

OLDEST = (3, 11)
# of those, and on Linux x86_64 alone, ve-fairseq has wheels
WITH_WHEELS = ((3, 11), (3, 12))
VERSION = "0.12.3"
# the first with add_safe_globals: checkpoints are read with weights_only. setup.py says the same
OLDEST_TORCH = (2, 4)

# its Python sources, which are the same in every wheel; ``compat.compiled`` does without the rest
FROM_SOURCES = f"""\
    pip download ve-fairseq=={VERSION} --no-deps --only-binary :all: --python-version 3.12 \
--platform manylinux_2_28_x86_64 --dest wheels
    pip install wheel && python -m wheel tags --remove --python-tag py3 --abi-tag none \
--platform-tag any wheels/ve_fairseq-{VERSION}-cp312-*.whl
    pip install wheels/ve_fairseq-{VERSION}-py3-none-any.whl"""
FROM_WHEEL = f"    pip install ve-fairseq=={VERSION}"


class NoFairseqError(AdminError, ImportError):
    """There is no fairseq, or none that can be imported. The message says how to get it."""


class OldTorchError(AdminError, ImportError):
    """There is a torch, and it is too old. The message says from which release on it works."""


def import_fairseq() -> None:
    """Import fairseq, or say how to get it.

    Raises:
        NoFairseqError: if this Python is too old, or fairseq is missing or cannot be imported.
        OldTorchError: if torch is older than the plugin.
    """
    if sys.version_info[:2] < OLDEST:
        raise NoFairseqError(
            f"Python {platform.python_version()} is too old: admin_fairseq and fairseq's main "
            "branch need 3.11 or later; 3.11 and 3.12 are the easiest ones"
        )
    spec = importlib.util.find_spec("fairseq") if "fairseq" not in sys.modules else None
    if "fairseq" not in sys.modules and (spec is None or spec.origin is None):
        raise NoFairseqError(_missing(spec is not None))
    _check_torch()
    # while it is imported it logs about tensorboardX
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    try:
        importlib.import_module("fairseq.tasks")
        importlib.import_module("fairseq.data.data_utils")
    except Exception as error:  # of whatever it needs: torch, hydra, numpy
        raise NoFairseqError(
            f"fairseq is here ({_place()}) and cannot be imported: "
            f"{type(error).__name__}: {error}\nInstall it again, with what it needs:\n{_way()}"
        ) from error


def _check_torch() -> None:
    """Refuse a torch that is too old; what else is wrong with it fairseq's import says."""
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return
    version = str(getattr(torch, "__version__", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_TORCH:
        oldest = ".".join(str(number) for number in OLDEST_TORCH)
        raise OldTorchError(
            f"torch {version} is too old: admin_fairseq needs {oldest} or later\n"
            f"    pip install --upgrade 'torch>={oldest}'"
        )


def has_wheel() -> bool:
    """Whether ve-fairseq has a wheel for this interpreter."""
    is_linux = (sys.platform, platform.machine()) == ("linux", "x86_64")
    return is_linux and sys.version_info[:2] in WITH_WHEELS


def _way() -> str:
    return FROM_WHEEL if has_wheel() else FROM_SOURCES


def _missing(is_folder: bool) -> str:
    what = "there is no fairseq in this Python"
    if is_folder:
        what = (
            "there is no fairseq in this Python, only a folder of that name, as in the folder "
            "above a clone of it"
        )
    where = "" if has_wheel() else ", whose Python sources are enough here"
    return f"{what}. admin_fairseq needs ve-fairseq, its main branch{where}:\n{_way()}"


def _place() -> str:
    spec = importlib.util.find_spec("fairseq")
    return str(spec.origin) if spec is not None else "fairseq"
