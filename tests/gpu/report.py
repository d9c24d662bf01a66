"""The report: a text file that grows line by line, so that nothing is lost when it ends early."""

import sys
import threading
import time

WORDS = {True: "ok", False: "FAILED", None: "measured"}


class Report:
    """Writes to a file, if there is one, and to standard output; from several threads.

    Attributes:
        counts: word -> how many checks ended with it.
    """

    def __init__(self, path=None):
        self.file = None
        if path:
            self.file = open(path, "w", encoding="utf-8")  # noqa: SIM115, closed in close()
        self.counts = {"ok": 0, "FAILED": 0, "measured": 0, "skipped": 0}
        self._lock = threading.Lock()

    def write(self, *lines):
        with self._lock:
            for line in lines:
                for file in (sys.stdout, self.file):
                    if file:
                        print(line, file=file, flush=True)

    def add(self, name, result, seconds):
        """Write a check's line, and its details below it."""
        word = WORDS[result.passed]
        allowed = f" ({result.tolerance})" if result.tolerance else ""
        text = f"{result.compared}: {result.figure}{allowed}"
        self._line(word, name, seconds, text, result.details)

    def skip(self, name, reason, seconds=0.0):
        self._line("skipped", name, seconds, reason)

    def fail(self, name, reason, seconds, details=()):
        """Write that a check did not come to an end."""
        self._line("FAILED", name, seconds, reason, details)

    def _line(self, word, name, seconds, text, details=()):
        text = " ".join(text.split())
        if name != "header":
            self.counts[word] += 1
        lines = [f"{word:<8} {name:<32} {seconds:6.1f} s  {text}"]
        lines += [f"{'':20}{detail}" for detail in details]
        self.write(*lines)

    def close(self, started):
        """Write the sum; return the exit code: 1 if a check failed, or none was made."""
        made = sum(self.counts.values()) - self.counts["skipped"]
        sums = ", ".join(f"{count} {word}" for word, count in self.counts.items())
        self.write(f"{sums}; {time.time() - started:.0f} s in all")
        if self.file:
            self.file.close()
        return int(self.counts["FAILED"] > 0 or made == 0)
