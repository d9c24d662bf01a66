"""Data-loading processes end with the epoch that they were started for."""

import re

import pytest

from tests.helpers import train

pytestmark = pytest.mark.subprocess

COUNTING = """
import multiprocessing
from fairseq.trainer import Trainer
import admin_fairseq

begin = Trainer.begin_epoch

def begin_epoch(self, epoch):
    begin(self, epoch)
    print(f"epoch {epoch}: {len(multiprocessing.active_children())} processes", flush=True)

Trainer.begin_epoch = begin_epoch
"""


@pytest.mark.parametrize("way", ["an iterator an epoch", "shards"])
def test_processes_that_load_data_do_not_become_more(way, data_bin, tmp_path):
    plugin = tmp_path / "counting"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(COUNTING)
    flags = ["--user-dir", plugin, "--num-workers", "1", "--max-epoch", "4", "--max-update", "100"]
    if way == "an iterator an epoch":
        flags += ["--update-epoch-batch-itr", "True"]
    data = f"{data_bin}:{data_bin}" if way == "shards" else data_bin
    log = train(data, tmp_path / "run", *flags, "--batch-size", "40").stdout
    counts = [int(count) for count in re.findall(r"epoch \d+: (\d+) processes", log)]
    assert len(counts) == 4
    # the first epoch begins before anything was validated; one process trains, one validates
    assert max(counts) <= 3 and counts[-1] <= counts[2]
