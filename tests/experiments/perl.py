"""The Perl scripts of Moses, where a machine has them: MOSES_SCRIPTS=mosesdecoder/scripts pytest.

github.com/moses-smt/mosesdecoder. No package brings them as they are since 2018: mosestokenizer's
tokenizer.perl is older, and it has neither remove-non-printing-char.perl nor clean-corpus-n.perl.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(os.environ.get("MOSES_SCRIPTS", "no folder"))
FOUND = bool(shutil.which("perl")) and (SCRIPTS / "tokenizer" / "tokenizer.perl").is_file()
needed = pytest.mark.skipif(
    not FOUND, reason="needs perl, and MOSES_SCRIPTS=mosesdecoder/scripts in the environment"
)


def perl(script, *words, lines):
    """What a script that reads and writes lines makes of them."""
    command = ["perl", str(SCRIPTS / script), *words]
    text = "".join(line + "\n" for line in lines).encode("utf-8")
    run = subprocess.run(
        command, input=text, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return run.stdout.decode("utf-8")[:-1].split("\n")
