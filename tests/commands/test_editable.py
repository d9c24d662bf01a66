"""What is installed: an editable install, a wheel, and a bare copy of the folder beside fairseq."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from admin_fairseq.checkpoints import read
from admin_fairseq.profile.file import load
from tests.helpers import REPOSITORY, TRAIN_FLAGS

PACKAGE = REPOSITORY / "admin_fairseq"


def copy_sources(folder):
    """What a clone has to build from."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "admin_fairseq", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)


def build(kind, sources, folder):
    """Have setuptools build a wheel, ``wheel`` or ``editable``; returns its path."""
    folder.mkdir()
    program = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    subprocess.run(
        [sys.executable, "-c", program], cwd=sources, check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the sources, and what pip unpacks of its editable wheel."""
    folder = tmp_path_factory.mktemp("editable")
    sources = folder / "clone"
    copy_sources(sources)
    with zipfile.ZipFile(build("editable", sources, folder / "wheel")) as archive:
        archive.extractall(folder / "site-packages")
    return sources, folder / "site-packages"


def test_the_folder_beside_fairseq_leads_to_the_sources(installed):
    sources, site = installed
    program = (
        "import admin_fairseq, admin_fairseq.model as model; "
        "print(admin_fairseq.__path__[0], model.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=site,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [
        str(sources / "admin_fairseq"),
        str(sources / "admin_fairseq" / "model.py"),
    ]


def test_pip_knows_the_file(installed):
    """So that it goes when the package does."""
    _, site = installed
    (record,) = site.glob("*.dist-info/RECORD")
    assert "admin_fairseq/__init__.py,sha256=" in record.read_text()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """What a wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_sources(folder / "clone")
    with zipfile.ZipFile(build("wheel", folder / "clone", folder / "wheel")) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def files_of(folder):
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if path.suffix != ".pyc"}


def test_a_wheel_has_every_file(unpacked):
    assert files_of(unpacked / "admin_fairseq") == files_of(PACKAGE)
    assert {path.suffix for path in PACKAGE.rglob("*") if path.is_file()} <= {
        *(".py", ".pyc", ".ini", ".typed")
    }, "setup.py names what else there is"
    (points,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "admin-fairseq = admin_fairseq.cli:main" in points.read_text()


@pytest.mark.subprocess
def test_the_command_of_a_wheel(unpacked, tmp_path):
    """``python -m`` in the folder that has the package, so that no other one is found."""
    for word, expected in (("--help", "COMMAND"), ("--version", "admin_fairseq ")):
        result = subprocess.run(
            [sys.executable, "-m", "admin_fairseq", word],
            cwd=unpacked,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert expected in result.stdout
    program = "import admin_fairseq.cli; print(admin_fairseq.cli.__file__)"
    found = subprocess.check_output(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'admin-fairseq'; {program}"],
        cwd=unpacked,
        text=True,
    )
    assert found.strip() == str(unpacked / "admin_fairseq" / "cli.py")


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["admin_fairseq", "other_name"])
def test_a_bare_copy_of_the_folder_is_a_user_dir(warm, data_bin, tmp_path, name):
    """By its absolute path, from another folder; no other copy takes part."""
    copy = tmp_path / "somewhere" / name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "version.py").write_text(
        "import atexit, sys\n"
        '__version__ = "bare copy"\n'
        "atexit.register(lambda: print('installed too:', 'admin_fairseq' in sys.modules))\n"
    )
    (tmp_path / "elsewhere").mkdir()
    save_dir = tmp_path / "run"
    flags = ["--init-type", "adaptive-auto", "--max-update", 2, "--cpu", "--save-dir", save_dir]
    train = ["fairseq-train", data_bin, "--user-dir", copy, *TRAIN_FLAGS, *flags]
    output = warm.run(*train, cwd=tmp_path / "elsewhere").stdout
    assert f"installed too: {name == 'admin_fairseq'}" in output
    assert load(save_dir / "admin.profile").provenance["admin_fairseq"] == "bare copy"
    checkpoint = save_dir / "checkpoint_last.pt"
    assert read(checkpoint)["last_optimizer_state"] is not None
    translate = ["fairseq-generate", data_bin, "--user-dir", copy, "--path", checkpoint, "--cpu"]
    output = warm.run(*translate, "--max-len-b", 6, cwd=tmp_path / "elsewhere").stdout
    assert output.count("\nH-") == 27
