"""What Admin costs, on the models and batches of scripts/measure_cost.py."""

import re
import sys

import pytest

from tests.helpers import REPOSITORY, run

pytestmark = pytest.mark.subprocess


@pytest.mark.slow
def test_profiling_needs_less_memory_than_a_training_step():
    """Times are the script's business; memory can be tested on any machine."""
    script = REPOSITORY / "scripts" / "measure_cost.py"
    out = run(sys.executable, script, "--layers", "2", "--pairs", "2", "--device", "cpu").stdout
    assert 0 < int(re.search(r"profiling \d+ MiB \((\d+)%\)", out)[1]) < 60
    assert all(0.3 < float(ratio) < 3 for ratio in re.findall(r"median ([\d.]+)", out))
