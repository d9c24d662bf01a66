"""The profile file: what is written is read, and what is not whole is refused."""

import math
import os
import re
import stat
from collections import OrderedDict

import pytest
from admin_fairseq.errors import AdminError
from admin_fairseq.profile_file import load, save, table
from admin_fairseq.profiling import Profile, SiteProfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

positive = st.floats(min_value=1e-300, max_value=1e300)


def profile(layers=2, omega=1.25):
    sites = OrderedDict()
    for i in range(layers):
        for kind in ("self_attn_residual", "ffn_residual"):
            sites[f"encoder.layers.{i}.{kind}"] = SiteProfile(omega + i, 0.5, 1.75)
    return Profile(sites, OrderedDict(seed="7", command="fairseq-train data --seed 7"))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(positive, positive, positive), min_size=1, max_size=40),
    facts=st.dictionaries(
        st.from_regex(r"[a-z][a-z ]{0,10}[a-z]", fullmatch=True).filter(lambda k: k not in ("version", "sites")),
        st.text(max_size=30),
        max_size=5,
    ),
)
def test_reads_what_it_wrote(tmp_path, values, facts):
    sites = OrderedDict((f"decoder.layers.{i}.ffn_residual", SiteProfile(*v)) for i, v in enumerate(values))
    path = tmp_path / "admin.profile"
    save(Profile(sites, facts), path)
    again = load(path)
    assert again.sites == sites and list(again.sites) == list(sites)
    assert again.provenance == {key: " ".join(value.split()) for key, value in facts.items()}


def test_is_text_that_explains_itself(tmp_path):
    save(profile(), tmp_path / "p")
    text = (tmp_path / "p").read_text()
    assert text.startswith("# Admin profile")
    assert "omega * x" in text and "# seed: 7" in text and "# command: fairseq-train data --seed 7" in text
    assert "\nencoder.layers.1.ffn_residual\t2.25\t0.5\t1.75\n" in text


def test_every_truncation_is_noticed(tmp_path):
    save(profile(), tmp_path / "whole")
    text = (tmp_path / "whole").read_text()
    for length in range(len(text) - 1):
        (tmp_path / "part").write_text(text[:length])
        with pytest.raises(AdminError, match=re.escape(str(tmp_path / "part"))):
            load(tmp_path / "part")


def test_every_truncation_of_a_two_column_file_is_noticed_line_by_line(tmp_path):
    lines = [f"{i} {1 + i / 10}\n" for i in (1, 2, 3, 4)] + [f"{i} {1 + i / 10}\n" for i in range(1, 10)]
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
        (lambda t: t.replace("# version: 1", "# version: 2"), "version 2"),
        (lambda t: t.replace("\t2.25\t", "\tnan\t"), "nan is not finite"),
        (lambda t: t.replace("\t2.25\t", "\ttwo\t"), "'two' is not a number"),
        (lambda t: t.replace("\t2.25\t", "\t-\t", 1), "omega is missing"),
        (lambda t: t.replace("\t2.25\t", "\t"), "3 columns instead of 4"),
        (lambda t: t.replace("layers.1.ffn", "layers.0.ffn"), "stands there twice"),
        (lambda t: re.sub(r"encoder.layers.0.ffn.*\n", "", t), "the header says 4 sites, but there are 3"),
        (lambda t: "epoch 1 loss 3.2\n" + t, "not a profile"),
        (lambda t: t.replace("Admin profile", "Shopping list"), "not a profile"),
        (lambda t: "", "not a profile|cut short"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, message):
    path = tmp_path / "p"
    save(profile(), path)
    path.write_text(change(path.read_text()))
    with pytest.raises(AdminError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_missing_binary_and_folder(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04\xff\xfe\x80")
    for name, message in [("none", "no such profile"), ("checkpoint.pt", "cannot be read"), (".", "cannot be read")]:
        with pytest.raises(AdminError, match=message):
            load(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "p"
    save(profile(), path)
    before = path.read_text()
    with pytest.raises(ValueError):
        save(Profile(OrderedDict(a=SiteProfile("not a number"))), path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["p"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p"
    save(profile(), path)
    before = path.read_text()
    monkeypatch.setattr(os, "fsync", lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(OSError, match="No space left"):
        save(profile(omega=3), path)
    assert path.read_text() == before and os.listdir(tmp_path) == ["p"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        save(profile(), tmp_path / "p")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o640


def test_table_has_a_line_per_site():
    lines = table(profile()).splitlines()
    assert len(lines) == 5 and lines[0].split()[0] == "site"
    assert math.isclose(float(lines[-1].split()[1]), 2.25)
    assert "-" in table(Profile(OrderedDict({"encoder.layers.0.ffn_residual": SiteProfile(1.5)})))
