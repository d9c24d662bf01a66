"""docs/python.md: its two examples are taken from the page and run as they stand."""

import re
import shlex

import pytest
import torch

import admin_fairseq
from admin_fairseq.checkpoints import load_checkpoint
from tests.commands.test_your_own_code import SMALL
from tests.helpers import REPOSITORY

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def code_of(heading):
    """The one code block of a section."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
    return code


def test_the_table_has_the_names_of_the_api():
    rows = [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)", " ".join(rows)))
    assert named == set(admin_fairseq.__all__) - {"__version__"}


def test_a_module_of_ones_own(capsys):
    state = torch.get_rng_state()
    found = {"__name__": "example"}
    try:
        exec(compile(code_of("Admin in a module of your own"), "docs/python.md", "exec"), found)
    finally:
        torch.set_rng_state(state)
    omegas = found["profile"].stacks["layers"]
    assert len(omegas) == 2 * found["LAYERS"] and omegas[0] == 1 and omegas == sorted(omegas)
    losses = found["losses"]
    assert sum(losses[-5:]) / 5 < 0.9 * losses[0], losses
    assert "omega at the first and the last site: 1.0" in capsys.readouterr().out


@pytest.mark.subprocess
def test_a_layer_of_ones_own(warm, data_bin, tmp_path):
    (tmp_path / "my_layers").mkdir()
    code = code_of("A layer of your own in fairseq")
    (tmp_path / "my_layers" / "__init__.py").write_text(code)
    (tmp_path / "data-bin").mkdir()
    (tmp_path / "data-bin" / "my_corpus").symlink_to(data_bin)
    lines = re.findall(r"^    (fairseq-.*)", PAGE.replace("\\\n", " "), re.M)
    train, translate = [shlex.split(line) for line in lines]
    output = warm.run(*train, *SMALL, cwd=tmp_path).stdout
    assert re.search(r"encoder.layers.11.convolution_residual +\d", output)
    state = load_checkpoint(tmp_path / "checkpoints" / "convolution" / "checkpoint_last.pt")
    omegas = [name for name in state["model"] if name.endswith(".omega")]
    assert len(omegas) == 3 * 12 + 3 * 6
    output = warm.run(*translate, "--cpu", "--max-len-b", 9, cwd=tmp_path).stdout
    assert len(re.findall(r"^H-\d+\t", output, re.M)) == 27
