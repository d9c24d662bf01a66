"""How ``train``, ``sweep`` and ``evaluate`` start and end: log, signals, exit codes."""

import logging
import sys
from argparse import Namespace
from collections.abc import Callable

from ...errors import AdminError, PrintableFormatter
from . import children


def run_command(name: str, work: Callable[[Namespace], None], args: Namespace) -> int:
    """Do a subcommand's work; return its exit code: 130 if it was stopped, 0 otherwise.

    Its log goes to standard error, with the time. SIGTERM stops it as Ctrl-C does.

    Raises:
        AdminError: for mistakes in flags and files, and what the operating system refuses.
    """
    handler = logging.StreamHandler(sys.stderr)
    line = f"[%(asctime)s] {name}: %(message)s"
    handler.setFormatter(PrintableFormatter(line, "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    try:
        with children.stopped_by_term():
            work(args)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AdminError(str(error)) from None
    except KeyboardInterrupt:
        print(f"admin-fairseq {name}: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0
