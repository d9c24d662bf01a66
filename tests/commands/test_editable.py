"""An editable install: --user-dir admin_fairseq works in every folder, as after a plain one."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.helpers import REPOSITORY


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the sources, and what pip unpacks of its editable wheel, beside a stand-in for fairseq's folder."""
    folder = tmp_path_factory.mktemp("editable")
    sources = folder / "clone"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "admin_fairseq", sources / "admin_fairseq", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    (folder / "wheel").mkdir()
    program = (
        f"from setuptools import build_meta; build_meta.build_editable({str(folder / 'wheel')!r})"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=sources, check=True, stdout=subprocess.DEVNULL
    )
    (wheel,) = (folder / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    return sources, folder / "site-packages"


def test_the_folder_beside_fairseq_leads_to_the_sources(installed, tmp_path):
    sources, site = installed
    program = "import admin_fairseq, admin_fairseq.model as model; print(admin_fairseq.__path__[0], model.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
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
