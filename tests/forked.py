"""fairseq's commands, each in a forked child of one process that has imported torch and fairseq already.

Starting Python and importing both takes about five CPU seconds; a child takes none of them. Like a fresh process, a child
has not imported admin_fairseq: ``--user-dir`` does.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

SERVER = """
import importlib, json, os, sys
import fairseq_cli.generate, fairseq_cli.preprocess, fairseq_cli.train

for line in sys.stdin:
    words, cwd, log = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(cwd)
            sys.argv = words
            if words[0] == "admin-fairseq":
                module, entry = "admin_fairseq.cli", "main"
            else:
                module, entry = "fairseq_cli." + words[0].split("-")[1], "cli_main"
            code = getattr(importlib.import_module(module), entry)() or 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forked:
    """``run(*words)`` as :func:`helpers.run` has it. A context manager; leaving it ends the process."""

    def __init__(self, folder):
        self.log = folder / "output.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, *words, cwd=".", check=True):
        words = [str(word) for word in words]
        print(json.dumps([words, str(cwd), str(self.log)]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        code, output = int(answer), self.log.read_text(errors="replace")
        if check and code != 0:
            raise AssertionError(f"{' '.join(words)}: exit code {code}\n{output[-6000:]}")
        return SimpleNamespace(returncode=code, stdout=output)
