"""The profile file: what is written is read, and what is not whole or not sound is refused."""

import math
import os
import re
import stat
from collections import OrderedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile.data import Profile, SiteProfile
from admin_fairseq.profile.file import load, save
from admin_fairseq.profile.text import table
from tests.profiles import OLDER, made_up

omegas = st.floats(min_value=1e-4, max_value=1e4)
RESERVED = ("version", "sites", "checksum")
variances = st.none() | st.floats(min_value=0, max_value=1e300)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(st.tuples(omegas, variances, variances), min_size=1, max_size=40),
    facts=st.dictionaries(
        st.from_regex(r"[a-z][a-z ]{0,10}[a-z]", fullmatch=True).filter(
            lambda key: key not in RESERVED
        ),
        st.text(max_size=30),
        max_size=5,
    ),
)
def test_reads_what_it_wrote(tmp_path, values, facts):
    """Numbers to the last bit; of facts, any blank is a space.

    What is not printable is written as in Python.
    """
    sites = OrderedDict(
        (f"decoder.layers.{i}.ffn_residual", SiteProfile(*v)) for i, v in enumerate(values)
    )
    path = tmp_path / "admin.profile"
    save(Profile(sites, facts), path)
    again = load(path)
    assert again.sites == sites and list(again.sites) == list(sites)
    for key, value in again.provenance.items():
        words = " ".join(facts[key].split())
        assert value == "".join(c if c.isprintable() else repr(c)[1:-1] for c in words).strip()
    assert list(again.provenance) == list(facts)


def test_is_text_that_explains_itself(tmp_path):
    save(made_up(), tmp_path / "p")
    text = (tmp_path / "p").read_text()
    assert text.startswith("# Admin profile")
    assert (
        "omega * x" in text
        and "# seed: 7" in text
        and "# command: fairseq-train data --seed 7" in text
    )
    assert "\nencoder.layers.1.ffn_residual\t2.25\t0.5\t5.75\n" in text


def test_every_truncation_is_noticed(tmp_path):
    save(made_up(), tmp_path / "whole")
    text = (tmp_path / "whole").read_text()
    for length in range(len(text) - 1):
        (tmp_path / "part").write_text(text[:length])
        with pytest.raises(AdminError, match=re.escape(str(tmp_path / "part"))):
            load(tmp_path / "part")


def test_every_truncation_of_an_older_file_is_noticed(tmp_path):
    for length in range(len(OLDER) - 1):
        (tmp_path / "part").write_text(OLDER[:length])
        with pytest.raises(AdminError, match=re.escape(str(tmp_path / "part"))):
            load(tmp_path / "part")


def test_every_truncation_of_a_two_column_file_is_noticed_line_by_line(tmp_path):
    lines = [f"{i} {1 + i / 10}\n" for i in (1, 2, 3, 4)] + [
        f"{i} {1 + i / 10}\n" for i in range(1, 10)
    ]
    (tmp_path / "whole").write_text("".join(lines))
    assert len(load(tmp_path / "whole").sites) == 13
    for count in range(len(lines)):
        if count in (7, 10):
            continue  # these end with a whole decoder layer: only the model can tell
        (tmp_path / "part").write_text("".join(lines[:count]))
        with pytest.raises(AdminError):
            load(tmp_path / "part")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.replace("# version: 1", "# version: 2"), "version '2'"),
        (lambda t: t.replace("\t2.25\t", "\tnan\t"), "nan is not finite"),
        (lambda t: t.replace("\t2.25\t", "\ttwo\t"), "'two' is not a number"),
        (lambda t: t.replace("\t2.25\t", "\t-\t", 1), "omega is missing"),
        (lambda t: t.replace("\t2.25\t", "\t"), "3 columns instead of 4"),
        (lambda t: t.replace("layers.1.ffn", "layers.0.ffn"), "appears twice"),
        (
            lambda t: re.sub(r"encoder.layers.0.ffn.*\n", "", t),
            "the header says '4' sites, but there are 3",
        ),
        (lambda t: "epoch 1 loss 3.2\n" + t, "not a profile"),
        (lambda t: t.replace("Admin profile", "Shopping list"), "not a profile"),
        (lambda t: "", "not a profile"),
        (lambda t: t.replace("# seed: 7", "# seed: 7\n# seed: 8"), "the header says 'seed' twice"),
        (
            lambda t: t.replace("# sites: 4", "# sites; 4"),
            "the header says None sites, but there are 4",
        ),
        (lambda t: t.replace("\t2.25\t", "\t2_25\t"), "'2_25' is not a number"),
        (lambda t: t.replace("\t2.25\t", "\t\u0662.25\t"), "is not a number"),
        (lambda t: t.replace("\t2.25\t", "\t-1.5\t"), "omega -1.5 is not from 0.0001 to 10000"),
        (lambda t: t.replace("\t2.25\t", "\t1e39\t"), r"omega 1e\+39 is not from 0.0001 to 10000"),
        (lambda t: t.replace("\t5.75\n", "\t-5.75\n"), "shortcut variance -5.75 is not at least 0"),
        (lambda t: t.replace("\t5.75\n", "\t1e999\n"), "shortcut variance inf is not finite"),
        (
            lambda t: t.replace("\t2.25\t", "\t2.5\t"),
            "the checksum is wrong.*damaged.*edited.*--renew-checksum",
        ),
        (lambda t: t.replace("seed: 7", "seed: 8"), "the checksum is wrong"),
        (lambda t: t.replace("# checksum: ", "# checksum: 0"), "the checksum is wrong"),
        (
            lambda t: t.replace("# checksum: ", "# checksum: 0\n# checksum: "),
            "the header says 'checksum' twice",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, message):
    path = tmp_path / "p"
    save(made_up(), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(AdminError, match=f"(?s){message}") as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "p"
    save(made_up(), path)
    before = path.read_text()
    with pytest.raises(AdminError, match="a: omega 'four' is not a number"):
        save(Profile(OrderedDict(a=SiteProfile("four"))), path)
    with pytest.raises(UnicodeEncodeError):
        profile_file._write("\ud800", path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["p"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p"
    save(made_up(), path)
    before = path.read_text()
    monkeypatch.setattr(os, "fsync", lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(OSError, match="No space left"):
        save(made_up((1.0, 3.0)), path)
    assert path.read_text() == before and os.listdir(tmp_path) == ["p"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        save(made_up(), tmp_path / "p")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o640


def test_table_has_a_line_per_site():
    lines = table(made_up()).splitlines()
    assert len(lines) == 5 and lines[0].split()[0] == "site"
    assert math.isclose(float(lines[-1].split()[1]), 2.25)
    assert "-" in table(Profile(OrderedDict({"encoder.layers.0.ffn_residual": SiteProfile(1.5)})))
