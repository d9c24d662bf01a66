"""May this output be written? Asked before the work is done, and not after it."""

import os
from collections.abc import Sequence

from ..errors import AdminError
from ..files import is_special


def check_output(output: str, inputs: Sequence[str], force: bool, kind: str = "file") -> None:
    """Refuse an output that would overwrite something, or cannot be written.

    Args:
        output: the path to write.
        inputs: what is read, which is never overwritten.
        force: whether an ``output`` that exists may be replaced.
        kind: ``file`` or ``folder``.

    Raises:
        AdminError: naming the output.
    """
    # by real paths: a link to the input is the input
    if os.path.realpath(output) in {os.path.realpath(path) for path in inputs}:
        raise AdminError(f"{output}: is the input, and would be overwritten")
    if not output or (kind == "file" and output.endswith(os.sep)):
        raise AdminError(f"'{output}': must be the path of a {kind}")
    if is_special(output):
        if kind != "file":
            raise AdminError(f"{output}: is a device or a pipe, and no {kind}")
        return  # written into, and not replaced
    parent = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(parent):
        raise AdminError(f"{output}: its folder does not exist")
    if not os.access(parent, os.W_OK):
        raise AdminError(f"{output}: no permission to write into its folder")
    # lexists: a link that leads nowhere is somebody's, too
    if os.path.lexists(output):
        _check_replaceable(output, force, kind)


def _check_replaceable(output: str, force: bool, kind: str) -> None:
    is_folder = os.path.isdir(output)
    if is_folder != (kind == "folder"):
        other = "folder" if is_folder else "file"
        raise AdminError(f"{output}: is a {other}, which is not replaced; name a {kind}")
    if not force:
        raise AdminError(
            f"{output}: already exists; name another {kind}, or replace it with --force"
        )
