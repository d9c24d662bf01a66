"""``--user-dir`` finds this plugin, in every situation of the table in docs/where_it_runs.md."""

import os
import re
import shutil
import subprocess
import sys

import fairseq
import pytest

from tests.commands.test_editable import PACKAGE, build, copy_sources
from tests.helpers import REPOSITORY

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

PAGE = REPOSITORY / "docs" / "where_it_runs.md"
FAIRSEQ = os.path.dirname(fairseq.__file__)
# as fairseq's commands import a user-dir; then, what was imported, and whether it registered
PROGRAM = """
import sys
from argparse import Namespace
from fairseq import utils
from fairseq.models import ARCH_MODEL_REGISTRY
sys.argv = ["fairseq-train"]
utils.import_user_module(Namespace(user_dir={user_dir!r}))
name = {user_dir!r}.rstrip("/").split("/")[-1]
print("imported", list(sys.modules[name].__path__)[0])
print("registered", "admin_transformer" in ARCH_MODEL_REGISTRY)
"""


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy(source, target)


def site_packages(folder, with_plugin):
    """A folder such as pip fills: fairseq, and beside it this plugin, installed or editable."""
    ignored = shutil.ignore_patterns("examples", "__pycache__")
    shutil.copytree(FAIRSEQ, folder / "fairseq", ignore=ignored, copy_function=link_or_copy)
    if with_plugin:
        kind = "editable" if with_plugin == "editable" else "wheel"
        sources = folder.parent / f"sources-{kind}"
        copy_sources(sources)
        shutil.unpack_archive(build(kind, sources, folder.parent / f"{kind}s"), folder, "zip")
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """kind of installation -> its site-packages."""
    folder = tmp_path_factory.mktemp("sites")
    found = {}
    for kind in ("installed", "editable", ""):
        (folder / f"site {kind}").mkdir()
        found[kind] = site_packages(folder / f"site {kind}", kind)
    return found


def import_it(user_dir, site, cwd):
    """Return where fairseq imports a user-dir from."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(user_dir=str(user_dir))],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "registered True" in result.stdout
    return re.search("imported (.*)", result.stdout)[1]


def installed_name(sites, place):
    return "admin_fairseq", "installed", place, sites["installed"] / "admin_fairseq"


def editable_name(sites, place):
    return "admin_fairseq", "editable", place, sites[""].parent / "sources-editable/admin_fairseq"


def name_in_a_clone(sites, place):
    copy_sources(place / "clone")
    return "admin_fairseq", "", place / "clone", place / "clone" / "admin_fairseq"


def name_above_a_clone(sites, place):
    """The clone is called admin_fairseq too, and is no package."""
    copy_sources(place / "admin_fairseq")
    return "admin_fairseq", "installed", place, sites["installed"] / "admin_fairseq"


def absolute_path(sites, place):
    copy_sources(place / "clone")
    (place / "elsewhere").mkdir()
    path = place / "clone" / "admin_fairseq"
    return path, "", place / "elsewhere", path


def relative_path(sites, place):
    copy_sources(place / "clone")
    (place / "elsewhere").mkdir()
    path = "../clone/admin_fairseq/"
    return path, "", place / "elsewhere", place / "clone" / "admin_fairseq"


def copied_folder(sites, place):
    shutil.copytree(PACKAGE, place / "my_copy", ignore=shutil.ignore_patterns("__pycache__"))
    return place / "my_copy", "installed", place, place / "my_copy"


def printed_path(sites, place):
    """fairseq and the plugin are in two places, as on a cluster with a fairseq of its own."""
    apart = sites["installed"] / "admin_fairseq"
    words = [sys.executable, "-m", "admin_fairseq", "user-dir"]
    path = subprocess.check_output(words, cwd=sites["installed"], text=True).strip()
    return path, "", place, apart


SITUATIONS = {
    "by name, installed": installed_name,
    "by name, installed with `pip install --editable`": editable_name,
    "by name, in the clone's folder, nothing installed": name_in_a_clone,
    "by name, above a clone that is called `admin_fairseq` too, installed": name_above_a_clone,
    "by absolute path, nothing installed": absolute_path,
    "by relative path, nothing installed": relative_path,
    "a copied folder, of any name": copied_folder,
    "fairseq and the plugin in two environments": printed_path,
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_plugin_is_found(sites, tmp_path, situation):
    user_dir, site, cwd, expected = SITUATIONS[situation](sites, tmp_path)
    found = import_it(user_dir, sites[site], cwd)
    assert os.path.realpath(found) == os.path.realpath(expected)


def test_the_page_has_these_situations():
    rows = re.findall(r"^\| ([^|]+) \| `--user-dir", PAGE.read_text(encoding="utf-8"), re.M)
    assert rows == list(SITUATIONS)
