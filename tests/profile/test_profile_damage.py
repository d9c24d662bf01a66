"""A profile is data: files that are none, characters, numbers out of range, and edits by hand."""

import os
import re

import pytest

from admin_fairseq import cli
from admin_fairseq.errors import AdminError
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile.data import Profile, SiteProfile
from admin_fairseq.profile.file import load, may_replace, renew_checksum, save
from tests.profiles import OLDER, TWO_COLUMNS, made_up


@pytest.fixture
def path(tmp_path):
    save(made_up(), tmp_path / "admin.profile")
    return tmp_path / "admin.profile"


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def refused(path):
    with pytest.raises(AdminError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_files_that_are_none(tmp_path):
    """None is waited for or read without end; the whole test would hang."""
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path / "fifo", tmp_path, "/dev/zero", "/dev/null"):
        assert "not a regular file" in refused(other)
    assert "no such profile" in refused(tmp_path / "none")
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04\n\xff\xfe\x80")
    assert "line 2 is not UTF-8" in refused(tmp_path / "checkpoint.pt")
    (tmp_path / "large").write_bytes(b"#" * (profile_file.LARGEST + 1))
    assert "larger than 4 MB" in refused(tmp_path / "large")
    with pytest.raises(AdminError, match="null (byte|character)"):
        load("a\0b")


def test_a_file_that_becomes_a_fifo_after_it_was_looked_at(tmp_path, path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    looked_at = os.stat(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda *_, **__: looked_at)
        message = refused(tmp_path / "fifo")
    assert "not a regular file" in message


def test_only_profiles_may_be_replaced(tmp_path, path):
    (tmp_path / "empty").touch()
    (tmp_path / "part").write_text("# Admin profile. cut sh")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "fifo")  # written into
    for name in ("none", "empty", "part", "link", "nowhere", "fifo", "no/folder"):
        assert may_replace(tmp_path / name), name
    (tmp_path / "text").write_text("the 100\n")
    (tmp_path / "link to text").symlink_to("text")
    for name in ("text", "link to text", "."):
        assert not may_replace(tmp_path / name), name


def test_save_replaces_only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for other, reason in ((tmp_path / "fifo", "nobody reads"), (tmp_path, "directory")):
        with pytest.raises(OSError, match=reason):
            save(made_up(), other)
    assert os.listdir(tmp_path) == ["fifo"]


CONTROLS = [
    "\x00",
    "\x07",
    "\x1b",
    "\r",
    "\x0b",
    "\x0c",
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u202e",
    "\ufeff",
]


@pytest.mark.parametrize("character", CONTROLS)
def test_characters_that_steer_a_terminal(path, character):
    for old in ("seed: 7", "encoder.layers.1.ffn_residual", "# version", "# end"):
        text = path.read_text()
        number = text[: text.index(old)].count("\n") + 1
        path.write_bytes(text.replace(old, old[0] + character + old[1:]).encode())
        message = refused(path)
        assert f"line {number}: the character {character!r} is not printable" in message
        assert message.replace("\n", "").isprintable()
        path.write_text(text)


def test_names_are_shown_cut(path):
    edit(path, "\t2.25\t", "\t" + "é" * 100_000 + "\t")
    assert len(refused(path)) < 400


def test_windows_line_ends_and_mark(path):
    expected = load(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path) == expected


def test_save_escapes_and_refuses_what_would_not_be_read(tmp_path):
    save(made_up(note="a\x1b[2Jb\u2028c \udc80"), tmp_path / "p")
    assert load(tmp_path / "p").provenance["note"] == "a\\x1b[2Jb c \\udc80"
    for name in ("version", "sites", "checksum", "a:b", "", " a", "a\nb"):
        broken = made_up()
        broken.provenance[name] = 1
        with pytest.raises(AdminError, match="cannot be the name of a fact"):
            save(broken, tmp_path / "p")
    for name in ("", "# a", "a\tb", "a\x1b"):
        with pytest.raises(AdminError, match="cannot be the name of a site"):
            save(Profile({name: SiteProfile(1.0)}), tmp_path / "p")
    assert load(tmp_path / "p").provenance["note"], "what was there is still there"


def test_the_first_ten_sites_out_of_range_are_listed(tmp_path):
    lines = [f"{i} 1e39\n" for i in range(1, 9)] + [f"{i} -1.5\n" for i in range(1, 7)]
    (tmp_path / "p").write_text("".join(lines))
    message = refused(tmp_path / "p")
    assert (
        message.count("omega 1e+39 is not from") == 8
        and message.count("omega -1.5 is not from") == 2
    )
    assert message.endswith("... and 4 more")
    (tmp_path / "p").write_text("1 0.0001\n2 10000\n1 1\n2 1\n3 1\n")
    assert list(load(tmp_path / "p").omega.values())[:2] == [1e-4, 1e4]


def test_older_files_load(tmp_path, caplog):
    (tmp_path / "p").write_text(OLDER)
    profile = load(tmp_path / "p")
    command = "fairseq-train data-bin/my_corpus --seed 1111"
    assert profile.provenance == {"seed": "1111", "layers": "2-2", "command": command}
    assert profile.omega["decoder.layers.1.ffn_residual"] == 1.4971915418060342
    assert not caplog.records
    save(profile, tmp_path / "new")
    new = (tmp_path / "new").read_text()
    added = "# (checksum|omega shape): .*\n"
    assert re.sub(added, "", new) == OLDER, "older releases take the lines for facts"
    assert load(tmp_path / "new") == profile


def test_older_files_must_obey_the_recursion(tmp_path):
    path = tmp_path / "p"
    path.write_text(OLDER.replace("\t1.3746713440594585\t", "\t1.37468\t"))
    message = refused(path)
    assert (
        "encoder.layers.1.self_attn_residual: omega 1.37468, and by the site before 1.3746713"
        in message
    )
    assert message.count("omega ") == 1 and "--init-type adaptive-profiling" in message
    assert f"admin-fairseq profile {path} --renew-checksum" in message
    first = "decoder.layers.0.self_attn_residual\t1.0"
    path.write_text(OLDER.replace(first, first.replace("1.0", "1.5")))
    assert (
        "decoder.layers.0.self_attn_residual: omega 1.5, and the first of a stack is 1"
        in refused(path)
    )


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("encoder.layers.1.ffn_residual", "encoder.layers.2.ffn_residual", "is out of order"),
        ("decoder.layers.1.self_attn", "decoder.layers.2.self_attn", "is out of order"),
        ("encoder.layers.0.self_attn", "encoder.layers.1.ffn", "appears twice"),
        (
            "decoder.layers.0.encoder_attn",
            "decoder.layers.0.enc\u00f6der_attn",
            "is not a residual site",
        ),
        ("encoder.layers.0.self_attn", "encoder.layers.00.self_attn", "is not a residual site"),
        (
            "decoder.layers.1.ffn_residual",
            "decoder.layers.1.ffn_residual ",
            "is not a residual site",
        ),
    ],
)
def test_older_files_must_have_the_sites_of_a_transformer(tmp_path, old, new, problem):
    (tmp_path / "p").write_text(OLDER.replace(old, new))
    assert problem in refused(tmp_path / "p")


def test_older_files_without_cross_attention(tmp_path):
    lines = [
        line
        for line in OLDER.splitlines()
        if "encoder_attn" not in line and "decoder.layers.1" not in line
    ]
    text = (
        "\n".join(lines)
        .replace("sites: 10", "sites: 6")
        .replace("1.3845558760906485", "1.3352604762289342")
    )
    (tmp_path / "p").write_text(text)
    assert [name for name in load(tmp_path / "p").sites if name.startswith("decoder")] == [
        "decoder.layers.0.self_attn_residual",
        "decoder.layers.0.ffn_residual",
    ]


def test_without_variances_there_is_nothing_to_compare(tmp_path):
    path = tmp_path / "p"
    unknown = OLDER.replace("0.0691477358341217\t1.8205735683441162", "-\t-")
    path.write_text(unknown.replace("1.3746713440594585", "3.5"))
    assert load(path).omega["encoder.layers.1.self_attn_residual"] == 3.5


def test_an_edit_is_refused_until_the_checksum_is_renewed(path, caplog):
    edit(path, "\t2.0\t", "\t1.75\t")
    assert f"admin-fairseq profile {path} --renew-checksum" in refused(path)
    edited = path.read_text().splitlines()
    renew_checksum(path)
    (change,) = [(a, b) for a, b in zip(edited, path.read_text().splitlines()) if a != b]
    assert change[0].startswith("# checksum: ") and change[1].startswith("# checksum: ")
    assert load(path).omega["encoder.layers.1.self_attn_residual"] == 1.75
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert (
        "encoder.layers.1.self_attn_residual: omega 1.75, and by the site before 2.0"
        in record.getMessage()
    )
    assert "ffn_residual" not in record.getMessage()
    assert os.listdir(path.parent) == [path.name]


def test_the_command_renews_and_prints(path, capsys):
    edit(path, "\t2.0\t", "\t1.75\t")
    edited = path.read_text()
    assert cli.main(["profile", str(path)]) == 1 and path.read_text() == edited
    assert "1.75" not in capsys.readouterr().out
    assert cli.main(["profile", str(path), "--renew-checksum"]) == 0
    out, errors = capsys.readouterr()
    assert "seed: 7" in out and "1.750000" in out and "checksum" not in out
    assert "checksum renewed" in errors and "omega 1.75, and by the site before 2.0" in errors


def test_renewing_gives_older_files_a_checksum(tmp_path):
    path = tmp_path / "p"
    path.write_text(OLDER.replace("\t1.3746713440594585\t", "\t1.5\t"))
    renew_checksum(path)
    assert "# checksum: " in path.read_text()
    assert load(path).omega["encoder.layers.1.self_attn_residual"] == 1.5


def test_renewing_follows_links(tmp_path, path):
    (tmp_path / "link").symlink_to(path)
    edit(path, "seed: 7", "seed: 8")
    renew_checksum(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and load(path).provenance["seed"] == "8"


@pytest.mark.parametrize(
    "old, new",
    [
        ("\t2.0\t", "\t-2.0\t"),
        ("sites: 4", "sites: 5"),
        ("# end of", "# end"),
        ("seed: 7", "seed: \x1b"),
    ],
)
def test_renewing_checks_all_else(path, old, new):
    edit(path, old, new)
    before = path.read_bytes()
    with pytest.raises(AdminError, match=re.escape(str(path))):
        renew_checksum(path)
    assert path.read_bytes() == before


def test_renewing_what_cannot_be_written(path, monkeypatch):
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(
        AdminError, match="admin.profile: the checksum cannot be written: .*No space left"
    ):
        renew_checksum(path)
    assert len(load(path).sites) == 4


def test_two_columns_have_nothing_to_check(tmp_path, caplog):
    (tmp_path / "p").write_text(TWO_COLUMNS)
    assert len(load(tmp_path / "p").sites) == 10
    (record,) = caplog.records
    assert (
        record.levelname == "WARNING" and "damage to an omega would not show" in record.getMessage()
    )
    with pytest.raises(AdminError, match="two columns has no checksum"):
        renew_checksum(tmp_path / "p")
    for wrong in ("1 ²\n", "² 1\n", "1 1 1\n", "9999999 1\n", "1 0x1\n", "1 1,5\n", "\n", "1\n"):
        (tmp_path / "p").write_text(wrong)
        assert "line 1" in refused(tmp_path / "p")


NASTY = [
    b"",
    b"\n",
    b"#",
    b"#\n#\n#\n",
    b"# Admin profile",
    b"# Admin profile\n# end of profile\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 0\n# end of profil",
    b"# Admin profile\n#\n# version: 1\n# sites: " + b"9" * 5000 + b"\n# end of profile\n",
    b"# Admin profile\n#\n# version: " + b"9" * 5000 + b"\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 1\na\t"
    + b"9" * 5000
    + b"\t1\t1\n# end of profile\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 1\na\t1\t1e-999999999999\t-1\n# end of profile\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 1\n\t\t\t\n# end of profile\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 2\n"
    b"a.x\t1\t1e308\t1e308\na.y\t1\t0\t0\n# end of profile\n",
    b"# Admin profile\n#\n# version: 1\n# sites: 2\na.x\t1\t0\t0\na.y\t1\t0\t0\n# end of profile\n",
    b"1 " + b"1" * 400 + b"\n",
    b"9" * 5000 + b" 1\n",
    b"1 1\n" * 200_000,
    b"\xef\xbb\xbf# Admin profile\n",
    "# Admin profile\n".encode("utf-16"),
]


@pytest.mark.parametrize("content", NASTY, ids=range(len(NASTY)))
def test_nasty_files_end_in_one_short_message(tmp_path, content):
    (tmp_path / "p").write_bytes(content)
    message = refused(tmp_path / "p")
    assert len(message) < 1500 and message.replace("\n", "").isprintable()
