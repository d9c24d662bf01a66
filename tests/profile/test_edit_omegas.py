"""scripts/edit_omegas.py: profiles whose omegas are not those that were measured."""

import subprocess
import sys

import pytest

from admin_fairseq.profile.file import load
from scripts.edit_omegas import WAYS, edit
from tests.helpers import REPOSITORY
from tests.profiles import OLDER, made_up


@pytest.fixture
def measured(tmp_path):
    (tmp_path / "measured.profile").write_text(OLDER)
    return load(tmp_path / "measured.profile")


def test_every_way_leaves_the_measurement_and_changes_what_it_says(measured):
    found = {way: edit(measured, way).stacks for way in WAYS}
    for stack, omegas in measured.stacks.items():
        assert found["ones"][stack] == [1.0] * len(omegas)
        assert found["shuffled"][stack] != omegas
        assert sorted(found["shuffled"][stack]) == omegas
        assert found["reversed"][stack] == list(reversed(omegas))
        (mean,) = set(found["root-mean-square"][stack])
        assert mean**2 * len(omegas) == pytest.approx(sum(omega * omega for omega in omegas))
    for way in WAYS:
        for name, site in edit(measured, way).sites.items():
            assert site.branch_variance == measured.sites[name].branch_variance
    assert edit(measured, "shuffled", 2).stacks != found["shuffled"]


def test_stacks_stay_apart_whatever_the_order_of_the_sites():
    profile = made_up(omegas=(1.0, 1.5))
    before = profile.sites.copy()
    for name, site in before.items():
        profile.sites[name.replace("encoder", "decoder")] = site
        profile.sites.move_to_end(name)
    found = edit(profile, "reversed")
    assert list(found.sites) == list(profile.sites)
    assert list(found.stacks.values()) == [[1.5, 1.0]] * 2


@pytest.mark.subprocess
def test_command(tmp_path, measured):
    path = str(tmp_path / "measured.profile")

    def run(*words):
        command = [sys.executable, str(REPOSITORY / "scripts" / "edit_omegas.py"), *words]
        return subprocess.run(command, capture_output=True, text=True)

    assert run(path, "shuffled", str(tmp_path / "out.profile"), "--seed", "3").returncode == 0
    written = load(tmp_path / "out.profile")
    assert written.omega == edit(measured, "shuffled", 3).omega
    assert written.provenance["edited"] == "shuffled, seed 3"
    failed = run(str(tmp_path / "none.profile"), "ones", path)
    assert failed.returncode == 1 and "none.profile: no such profile" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_shuffled_is_the_same_on_every_machine():
    profile = made_up(omegas=(1.0, 1.5, 2.0, 2.25))
    assert list(edit(profile, "shuffled").omega.values()) == [1.5, 2.0, 1.0, 2.25]
