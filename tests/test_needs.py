"""Without a fairseq, with half of one, on another Python: one message, and the way out."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pytest

from admin_fairseq import needs
from admin_fairseq.errors import AdminError
from tests.helpers import REPOSITORY


def message():
    with pytest.raises(needs.NoFairseqError) as error:
        needs.import_fairseq()
    assert isinstance(error.value, AdminError) and isinstance(error.value, ImportError)
    return str(error.value)


@pytest.fixture
def without_fairseq(monkeypatch):
    """A function that says what Python finds under the name; nothing, until it is called."""
    monkeypatch.delitem(sys.modules, "fairseq")

    def find(spec):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    find(None)
    return find


def machine(monkeypatch, version, system, processor):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(needs.platform, "machine", lambda: processor)


@pytest.mark.parametrize(
    "version, system, processor, has_wheel",
    [
        ((3, 11), "linux", "x86_64", True),
        ((3, 12), "linux", "x86_64", True),
        ((3, 13), "linux", "x86_64", False),
        ((3, 14), "linux", "x86_64", False),
        ((3, 11), "linux", "aarch64", False),
        ((3, 12), "darwin", "arm64", False),
        ((3, 11), "darwin", "x86_64", False),
    ],
)
def test_the_way_to_fairseq(without_fairseq, monkeypatch, version, system, processor, has_wheel):
    machine(monkeypatch, version, system, processor)
    text = message()
    assert text.startswith("there is no fairseq in this Python. admin_fairseq needs ve-fairseq")
    assert ("wheel tags" in text) != has_wheel
    assert text.endswith(needs.FROM_WHEEL if has_wheel else needs.FROM_SOURCES)


def test_a_folder_of_that_name_is_no_fairseq(without_fairseq):
    without_fairseq(ModuleSpec("fairseq", None))
    assert "only a folder of that name" in message()


def test_an_old_python_is_told(monkeypatch):
    machine(monkeypatch, (3, 10), "linux", "x86_64")
    assert "is too old" in message() and "3.11" in message()


@pytest.mark.parametrize("version", ["1.13.1", "2.3.1+cu121", "2.0.0a0+gitc263bd4"])
def test_an_old_torch_is_told(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
    with pytest.raises(needs.OldTorchError, match="too old: admin_fairseq needs 2.4") as error:
        needs.import_fairseq()
    assert isinstance(error.value, AdminError) and isinstance(error.value, ImportError)
    assert f"torch {version} " in str(error.value) and "pip install" in str(error.value)


@pytest.mark.parametrize("version", ["2.4.0", "2.14.1+cpu", "2.10.0a0+ecf.nv25.11", "3.0", ""])
def test_other_torches_pass(monkeypatch, version):
    """Those of a vendor, too, and one that does not say its release."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=version))
    needs.import_fairseq()


@pytest.mark.subprocess
def test_an_old_torch_ends_a_command_with_one_message(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("__version__ = '2.3.1'")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-m", "admin_fairseq", "fold", "a", "b"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "torch 2.3.1 is too old" in result.stderr


@pytest.mark.subprocess
def test_fairseqs_commands_say_it_in_one_message():
    program = (
        "import sys, torch; torch.__version__ = '2.3.1'; sys.argv = ['fairseq-train']; "
        "import admin_fairseq"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.startswith("admin_fairseq: error: torch 2.3.1 is too old")


def test_what_is_installed_is_what_is_needed():
    """The oldest torch and numpy: of setup.py, of the page, and here."""
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    page = (REPOSITORY / "docs" / "where_it_runs.md").read_text(encoding="utf-8")
    oldest = ".".join(str(number) for number in needs.OLDEST_TORCH)
    assert re.findall(r'"torch>=([\d.]+)"', setup) == [oldest]
    assert f"torch {oldest} or later" in page
    (numpy,) = re.findall(r'"numpy>=([\d.]+)"', setup)
    assert f"numpy {numpy} or later" in page


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "content, reason",
    [
        ("import no_such_hydra", "ModuleNotFoundError: No module named 'no_such_hydra'"),
        ("raise ValueError('mutable default')", "ValueError: mutable default"),
        ("", "ModuleNotFoundError: No module named 'fairseq.tasks'"),
    ],
)
def test_half_a_fairseq(tmp_path, content, reason):
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq" / "__init__.py").write_text(content)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    command = [sys.executable, "-m", "admin_fairseq", "fold", "a", "b"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert f"fairseq is here ({tmp_path / 'fairseq'}" in result.stderr
    assert reason in result.stderr and "pip install" in result.stderr


def test_the_readme_says_the_same():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in readme.splitlines()]
    for line in needs.FROM_SOURCES.splitlines():
        assert line.strip() in lines


def test_the_scripts_do_the_same():
    script = (REPOSITORY / "scripts" / "setup_env.sh").read_text(encoding="utf-8")
    for flag in re.findall(r"--[\w-]+(?: [\w.:]+)?", needs.FROM_SOURCES):
        if not flag.startswith("--dest"):
            assert flag in re.sub(r"\\\n\s*", "", script), flag
