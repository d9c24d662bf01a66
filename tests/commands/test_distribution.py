"""What a release uploads: metadata, links, and an sdist whose tests run."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string

import pytest

from admin_fairseq.needs import OLDEST_TORCH
from tests.helpers import REPOSITORY

pytestmark = pytest.mark.subprocess
URL = "https://example.org/somebody/admin_fairseq"


def installed_or_skip(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here: pip install '.[test]'")


def cloned(folder):
    """A copy of what git would clone."""
    names = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, text=True
    ).splitlines()
    for name in names:
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    return folder


def build(folder, *flags, url):
    """Build as CONTRIBUTING.md has it, but with the setuptools that is here: no network."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a clone")
    installed_or_skip("build")
    sources, out = cloned(folder / "sources"), folder / "dist"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *flags, "--outdir", out, sources],
        cwd=folder,
        env={**os.environ, "REPOSITORY_URL": url},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return out


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """An sdist, and a wheel made from it, of a release that knows where its repository is."""
    return build(tmp_path_factory.mktemp("release"), url=URL)


def metadata_of(folder):
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return message_from_string(archive.read(name).decode())


def relative_links(description):
    links = re.findall(r"\]\(([^)\s]+)\)", description)
    return [link for link in links if not re.match(r"https://|mailto:|#", link)]


def test_metadata(distributions):
    metadata = metadata_of(distributions)
    assert metadata["Requires-Python"] in (">=3.11,<3.15", "<3.15,>=3.11")
    classifiers = metadata.get_all("Classifier")
    for release in ("3.11", "3.12", "3.13", "3.14"):
        assert f"Programming Language :: Python :: {release}" in classifiers
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert urls["Source"] == URL and urls["Paper"].startswith("https://arxiv.org/")
    assert metadata["Author"] and metadata["License-Expression"] or metadata["License"]


def test_the_oldest_torch_and_numpy(distributions):
    asked = metadata_of(distributions).get_all("Requires-Dist")
    oldest = ".".join(str(number) for number in OLDEST_TORCH)
    assert f"torch>={oldest}" in asked
    assert [line for line in asked if re.fullmatch(r"numpy>=[\d.]+", line)]


def test_links_of_the_description_are_absolute(distributions):
    description = metadata_of(distributions).get_payload()
    version = re.search(
        r'__version__ = "(.+)"', (REPOSITORY / "admin_fairseq/version.py").read_text()
    )[1]
    assert f"]({URL}/blob/v{version}/docs/flags.md)" in description
    assert f"]({URL}/raw/v{version}/nmt-experiments/quickstart.png)" in description
    assert not relative_links(description)


def test_a_build_that_knows_no_repository_has_no_dead_links(tmp_path):
    metadata = metadata_of(build(tmp_path, "--wheel", url=""))
    assert not relative_links(metadata.get_payload())
    assert "Source" not in str(metadata.get_all("Project-URL"))


def test_fairseq_is_asked_for_where_it_has_wheels(distributions):
    (line,) = [
        line for line in metadata_of(distributions).get_all("Requires-Dist") if "fairseq" in line
    ]
    markers = pytest.importorskip("packaging.requirements").Requirement(line).marker
    linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
    assert markers.evaluate({**linux, "python_version": "3.12"})
    assert not markers.evaluate({**linux, "python_version": "3.13"})
    assert not markers.evaluate({**linux, "python_version": "3.12", "platform_machine": "aarch64"})
    mac = {"sys_platform": "darwin", "platform_machine": "x86_64", "python_version": "3.12"}
    assert not markers.evaluate(mac)


def test_twine_has_nothing_to_say(distributions):
    installed_or_skip("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_tests_of_an_sdist_run(distributions, tmp_path):
    """Those of a module that reads pages, scripts, recipes and golden files, too."""
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"tests/golden/mini_admin_2-3.npz", "scripts/constraints.txt", "docs/flags.md"} <= names
    words = "-q -p no:cacheprovider tests/test_docs.py tests/profile/test_profile_file.py"
    command = [sys.executable, "-m", "pytest", *words.split(), "tests/test_logs.py"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert re.search(r"\d+ passed", result.stdout)
