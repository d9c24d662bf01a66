"""Runs checks in processes of their own: one that crashes, hangs or spoils CUDA ends only itself.

A check that fails leaves the others as they are. An error of CUDA's is different: it stays with its
process, and every later call fails too. So does a crash. Then the next check gets a new process.
"""

import multiprocessing
import threading
import time
import traceback

from tests.gpu.settings import Skipped

# words of errors after which a process's CUDA is of no use; being out of memory is none of them
STICKY = ("CUDA error", "device-side assert", "CUBLAS_STATUS", "cuDNN error")
GRACE = 5  # seconds that a check has to end by itself after the deadline


def outcome(function, settings):
    """Return ("result", Result), ("skipped", reason) or ("failed", reason, lines)."""
    try:
        return ("result", function(settings))
    except Skipped as reason:
        return ("skipped", str(reason))
    except Exception as error:
        lines = traceback.format_exc().splitlines()[-8:]
        return ("failed", f"{type(error).__name__}: {str(error)[:300]}", lines)


def is_spoilt(kind, *rest):
    """Whether the process that returned this outcome is of no more use."""
    return kind == "failed" and any(word in rest[0] for word in STICKY)


def serve(connection, checks, prepare, settings):
    """Run the checks whose names arrive, in a process of its own."""
    prepare(settings)
    while True:
        name = connection.recv()
        if name is None:
            return
        connection.send(outcome(checks[name], settings))


class Worker:
    """A process that runs checks by name, one at a time."""

    def __init__(self, checks, prepare, settings):
        self.arguments = (checks, prepare, settings)
        self.deadline = settings.deadline
        self.process = None

    def start(self):
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, *self.arguments), daemon=True)
        self.process.start()
        other.close()

    def run(self, name):
        """Return a check's outcome, as :func:`outcome` does."""
        if self.process is None:
            self.start()
        try:
            self.connection.send(name)
            if not self.connection.poll(max(1.0, self.deadline - time.time() + GRACE)):
                self.stop(kill=True)
                return ("skipped", "it had not ended when the time was used up")
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(10)
            code = self.process.exitcode
            self.stop(kill=True)
            return ("failed", f"its process ended with exit code {code}", [])
        if is_spoilt(*found):
            self.stop(kill=True)
        return found

    def stop(self, kill=False):
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.connection.send(None)
        self.process.join(20)
        self.connection.close()
        self.process = None


class InPlace:
    """The same in this process, for tests and debuggers."""

    def __init__(self, checks, prepare, settings):
        self.checks, self.settings = checks, settings
        prepare(settings)

    def run(self, name):
        return outcome(self.checks[name], self.settings)

    def stop(self):
        pass


def run_all(phases, checks, prepare, settings, report, worker=Worker):
    """Run checks and report them.

    Args:
        phases: lists of lanes, one phase after the other. A lane is a list of names; the lanes of a
            phase run at the same time, each in a process of its own, which the lane of that number
            in the next phase goes on with.
        checks: name -> function of settings; of a module, as processes are sent their names.
        prepare: a function of settings that each process begins with.
        worker: :class:`Worker`, or :class:`InPlace`.
    """
    workers = []
    for phase in phases:
        while len(workers) < len(phase):
            workers.append(worker(checks, prepare, settings))
        lanes = []
        for names, process in zip(phase, workers):
            arguments = (names, process, settings, report)
            lanes.append(threading.Thread(target=_run_lane, args=arguments))
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        while len(workers) > 1:
            workers.pop().stop()
    for process in workers:
        process.stop()


def _run_lane(names, worker, settings, report):
    for name in names:
        if settings.left <= 0:
            report.skip(name, "the time is used up")
            continue
        started = time.time()
        try:
            kind, first, *details = worker.run(name)
        except Exception as error:  # of the process around it: no check may be lost in silence
            kind, first, details = "failed", f"{type(error).__name__}: {error}", []
        seconds = time.time() - started
        if kind == "result":
            report.add(name, first, seconds)
        elif kind == "skipped":
            report.skip(name, first, seconds)
        else:
            report.fail(name, first, seconds, *details)
