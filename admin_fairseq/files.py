"""Files that are written whole or not at all."""

import contextlib
import os
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Open a new binary file that takes the place of ``path`` when the block ends without error.

    Readers see the old file or the new one, never a part; two writers do not mix. Missing folders
    are made.

    Raises:
        OSError: if it cannot be written; what was at ``path`` is still there.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would keep colleagues out
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
