"""Commands in forked children of one warm process, without the seconds of importing fairseq.

The warm process imports neither this plugin nor anything of a test's, so that a child without
``--user-dir`` is stock fairseq; a child is a process of its own, which can be killed as one.
"""

import atexit
import functools
import gc
import glob
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).resolve().parent.parent
ENTRIES = {
    "fairseq-train": "fairseq_cli.train:cli_main",
    "fairseq-generate": "fairseq_cli.generate:cli_main",
    "fairseq-interactive": "fairseq_cli.interactive:cli_main",
    "fairseq-validate": "fairseq_cli.validate:cli_main",
    "fairseq-preprocess": "fairseq_cli.preprocess:cli_main",
    "admin-fairseq": "admin_fairseq.cli:main",
}


class Warm:
    """The warm process, as a test sees it."""

    def __init__(self, folder):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        self.outputs = Path(folder)
        self.number = 0
        self.busy = threading.Lock()  # one command at a time: who finds it taken starts a cold one
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run(self, *words, cwd=None, check=True, kill_when=None, stdin="", timeout=300):
        """Run a command of :data:`ENTRIES`, or ``python SCRIPT``; like ``helpers.run``.

        Args:
            kill_when: end it with SIGKILL as soon as a file of one of these patterns is there.
        """
        self.number += 1
        output = self.outputs / f"{self.number}.txt"
        output.with_suffix(".in").write_text(stdin)
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or self.outputs),
            "output": str(output),
            "kill_when": [str(pattern) for pattern in kill_when or ()],
            "timeout": timeout,
        }
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        code = json.loads(self.server.stdout.readline())
        result = SimpleNamespace(returncode=code, stdout=output.read_text(errors="replace"))
        if check and code != (-signal.SIGKILL if kill_when else 0):
            raise AssertionError(
                f"{' '.join(request['words'])}: exit code {code}\n{result.stdout[-4000:]}"
            )
        return result

    def close(self):
        self.server.stdin.close()
        self.server.wait(10)


@functools.cache
def shared():
    """Return the warm process of this test process."""
    folder = tempfile.mkdtemp(prefix="warm-")
    process = Warm(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.close)
    return process


def serve():
    """Read requests from stdin, a JSON object a line, and answer with exit codes.

    Returns in a child what it has to run.
    """
    import fairseq_cli.generate
    import fairseq_cli.interactive
    import fairseq_cli.preprocess
    import fairseq_cli.train
    import fairseq_cli.validate  # noqa: F401
    import matplotlib  # noqa: F401
    import sacrebleu  # noqa: F401
    import torch
    import torch._dynamo  # torch does so when it builds an optimizer: half of a short training

    torch.set_num_threads(1)
    fill_caches()
    # what is here stays shared with the children: their garbage collectors leave it alone
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return request
        answers.write(json.dumps(wait_for(child, request)) + "\n")
        answers.flush()
    return None


def fill_caches():
    """Let hydra read a command line: its grammar, and what it finds installed, are kept."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    parser = options.get_generation_parser()
    convert_namespace_to_omegaconf(
        options.parse_args_and_arch(parser, ["data-bin", "--path", "model.pt"])
    )


def wait_for(child, request):
    """Return the exit code of a child, negative if a signal ended it."""
    deadline = time.monotonic() + request["timeout"]
    killed = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        due = any(glob.glob(pattern) for pattern in request["kill_when"])
        if not killed and (due or time.monotonic() > deadline):
            os.kill(child, signal.SIGKILL)
            killed = True
        time.sleep(0.002)


def take_place(request):
    """Become the command: its folder, its streams, its arguments."""
    os.chdir(request["cwd"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    given = os.open(request["output"].replace(".txt", ".in"), os.O_RDONLY)
    for source, target in ((given, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.argv = request["words"]


def become(request):
    """Run the command in this process."""
    take_place(request)
    # fairseq's commands set up logging when they are imported, the first of them for all
    logging.getLogger().handlers.clear()
    for name in [name for name in sys.modules if name.startswith("fairseq_cli.")]:
        del sys.modules[name]
    if sys.argv[0] == "python":
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    module, _, function = ENTRIES[sys.argv[0]].partition(":")
    sys.exit(getattr(__import__(module, fromlist=[function]), function)())


def leave_quickly(ended):
    """End this process as it would end by itself, but for the taking apart of what it imported.

    Registered with ``atexit`` before all others, so that it is the last to be called.
    """
    if "code" not in ended:
        return  # the warm process itself, or a command that Python ends in another way
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(ended["code"])


if __name__ == "__main__":
    # as PYTHONPATH has it: the tests' folder is no part of a command's path, and its profile/ hides
    # Python's profile
    sys.path[0] = str(REPOSITORY)
    ended = {}
    atexit.register(leave_quickly, ended)
    command = serve()
    if command is not None:
        try:
            become(command)
            ended["code"] = 0
        except SystemExit as error:
            if error.code is None or isinstance(error.code, int):
                ended["code"] = (error.code or 0) & 0xFF
            raise
