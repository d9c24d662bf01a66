"""Commands in forked children of one warm process, without the seconds of importing fairseq.

The warm process imports neither this plugin nor anything of a test's, so that a child without
``--user-dir`` is stock fairseq; a child is a process of its own, which can be killed as one. Its
Python is a virtual environment whose fairseq-train and others are `warm_client`, so that what
an ``admin-fairseq train`` starts is such a child as well.
"""

import atexit
import functools
import gc
import glob
import itertools
import json
import logging
import os
import runpy
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from tests.warm_client import ask

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
    """The warm process, as a test sees it.

    Attributes:
        folder: a virtual environment, whose commands are run by the warm process.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.numbers = itertools.count(1)
        make_environment(self.folder)
        # here: who asks before the warm process has imported all waits, and is not refused
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{folder}/socket")
            listener.listen(64)
            self.server = subprocess.Popen(
                [self.folder / "bin" / "python", __file__, str(listener.fileno())],
                stdin=subprocess.PIPE,
                env=environment(),
                pass_fds=[listener.fileno()],
            )

    def run(self, *words, cwd=None, check=True, kill_when=None, stdin="", timeout=300):
        """Run a command of :data:`ENTRIES`, or ``python SCRIPT``; like ``helpers.run``.

        Args:
            kill_when: end it with SIGKILL as soon as a file of one of these patterns is there.
        """
        words = [str(word) for word in words]
        output = self.folder / f"{next(self.numbers)}.txt"
        given = output.with_suffix(".in")
        given.write_text(stdin)
        with open(given) as reads, open(output, "wb") as writes:
            streams = [reads.fileno(), writes.fileno(), writes.fileno()]
            where = str(cwd or self.folder)
            connection = ask(f"{self.folder}/socket", words, where, environment(), streams)
        code = answer_of(connection, kill_when or (), timeout)
        result = SimpleNamespace(returncode=code, stdout=output.read_text(errors="replace"))
        if check and code != (-signal.SIGKILL if kill_when else 0):
            raise AssertionError(f"{' '.join(words)}: exit code {code}\n{result.stdout[-4000:]}")
        return result

    def close(self):
        self.server.stdin.close()
        self.server.wait(10)


def environment():
    """Return the variables that a command is started with."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def make_environment(folder):
    """Make a virtual environment that has our packages, and other commands of the same names."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name in ("lib", "lib64"):
        if os.path.isdir(f"{sys.prefix}/{name}"):
            (folder / name).symlink_to(f"{sys.prefix}/{name}")
    settings = Path(sys.prefix, "pyvenv.cfg")
    if settings.exists():
        shutil.copy(settings, folder)
    else:
        home = os.path.dirname(os.path.realpath(sys.executable))
        (folder / "pyvenv.cfg").write_text(f"home = {home}\n")
    client = (Path(__file__).parent / "warm_client.py").read_text()
    for name in ENTRIES:
        command = folder / "bin" / name
        # -IS: a Python that looks for no packages is there in no time
        command.write_text(f"#!{folder}/bin/python -IS\n{client}")
        command.chmod(0o755)


def answer_of(connection, kill_when, timeout):
    """Return the exit code of a command, once it has ended or was killed."""
    deadline = time.monotonic() + timeout
    pause = 0.002 if kill_when else timeout
    with connection:
        while not select.select([connection], [], [], pause)[0]:
            due = any(glob.glob(str(pattern)) for pattern in kill_when)
            if due or time.monotonic() > deadline:
                connection.send(bytes([signal.SIGKILL]))
                break
        return int(connection.makefile().read() or 1)


@functools.cache
def shared():
    """Return the warm process of this test process."""
    folder = tempfile.mkdtemp(prefix="warm-")
    process = Warm(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.close)
    return process


def serve(listener):
    """Start a child for each connection, and answer with its exit code, until stdin ends.

    Returns in a child what it has to run, and its streams.
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
    return Server(listener).run()


class Server:
    """The warm process's side of the connections."""

    def __init__(self, listener):
        self.listener = listener
        self.children = {}  # process: its connection
        self.selector = selectors.DefaultSelector()
        self.ended, self.ends = socket.socketpair()  # readable when a child has ended
        for end in (self.ended, self.ends):
            end.setblocking(False)
        self.before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self.ends.fileno())
        for source in (sys.stdin, listener, self.ended):
            self.selector.register(source, selectors.EVENT_READ)

    def run(self):
        """Return None when stdin ends, and in a child what it has to run, and its streams."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is self.listener:
                    asked = self.begin()
                    if asked:
                        return asked
                elif key.fileobj is self.ended:
                    self.ended.recv(4096)
                    self.answer()
                elif key.data in self.children:
                    self.pass_on(key.fileobj, key.data)

    def begin(self):
        """Start a child; return its request and streams in it, None in this process."""
        connection, _ = self.listener.accept()
        line, streams, _, _ = socket.recv_fds(connection, 2**16, 3)
        while not line.endswith(b"\n"):
            more = connection.recv(2**16)
            if not more:  # killed while it asked
                connection.close()
                return None
            line += more
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, self.before)
            # a connection that a child holds open would not end with the other side
            held = (self.listener, self.ended, self.ends, connection, self.selector)
            for source in (*held, *self.children.values()):
                source.close()
            return json.loads(line), streams
        for stream in streams:
            os.close(stream)
        self.children[child] = connection
        self.selector.register(connection, selectors.EVENT_READ, child)
        return None

    def pass_on(self, connection, child):
        """Give a child the signals that came for it: SIGKILL, if who started it has ended."""
        try:
            signals = connection.recv(16)
        except ConnectionResetError:
            signals = b""
        if not signals:
            self.selector.unregister(connection)
        for number in signals or [signal.SIGKILL]:
            os.kill(child, number)

    def answer(self):
        """Tell the exit codes of the children that have ended."""
        for child, connection in list(self.children.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            del self.children[child]
            try:
                self.selector.unregister(connection)
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            except (KeyError, OSError):
                pass  # nobody waits for it any more
            connection.close()


def fill_caches():
    """Let hydra read a command line: its grammar, and what it finds installed, are kept."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    parser = options.get_generation_parser()
    convert_namespace_to_omegaconf(
        options.parse_args_and_arch(parser, ["data-bin", "--path", "model.pt"])
    )


def take_place(request, streams):
    """Become the command: its folder, streams, signals, environment and arguments."""
    os.chdir(request["cwd"])
    for target, source in enumerate(streams):
        os.dup2(source, target)
        os.close(source)
    sys.stdin = os.fdopen(0, closefd=False)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["words"]


def become(request, streams):
    """Run the command in this process."""
    take_place(request, streams)
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
    command = serve(socket.socket(fileno=int(sys.argv[1])))
    if command is not None:
        try:
            become(*command)
            ended["code"] = 0
        except SystemExit as error:
            if error.code is None or isinstance(error.code, int):
                ended["code"] = (error.code or 0) & 0xFF
            raise
