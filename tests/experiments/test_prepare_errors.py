"""Preparation that is killed, or meets bad files, wrong flags or a full disk."""

import fcntl
import gzip
import os
import subprocess
import sys
import time

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.corpus.parallel import in_child
from tests.experiments.corpora import (
    SCRIPTS,
    bash,
    environment,
    files,
    iwslt14,
    manifest,
    preparation,
    recipe,
    sentences,
    tar,
    text_of,
    wmt14,
)
from tests.helpers import REPOSITORY

# runs the preparation again and again, each in a process of its own (forked: starting Python takes
# longer than most stages), and kills it before the first renaming that no run before has got to;
# prints how often
KILLED = """
import os, signal, sys
from admin_fairseq.cli import main
from admin_fairseq.experiments.corpus import pipeline
seen, replace = sys.argv.pop(1), os.replace
def killing(part, path):
    key = str(path)
    with open(seen, "a+") as file:
        file.seek(0)
        if key + "\\n" not in file:
            file.write(key + "\\n")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    replace(part, path)
os.replace = killing
kills = 0
while True:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = main(sys.argv[1:])
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        break
    kills += 1
print("kills", kills)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def words(tmp_path, name, dest="out", jobs=1):
    flags = preparation(tmp_path, name, dest)
    return [*flags, "--merges", "40", "--jobs", str(jobs)]


def prepare(tmp_path, name="iwslt14_de-en", dest="out", jobs=1):
    return bash(
        f"prepare_{name.replace('30k_en-de', '30k')}.sh", *words(tmp_path, name, dest, jobs)
    )


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["iwslt14_de-en", "wmt14_en-de"])
def test_killed_before_every_renaming_it_ends_with_the_same_files(tmp_path, name):
    iwslt14(tmp_path / "in", pairs=120) if name.startswith("iwslt") else wmt14(
        tmp_path / "in", "de", pairs=15
    )
    result = prepare(tmp_path, name)
    assert result.returncode == 0, result.stdout
    command = [sys.executable, "-c", KILLED, tmp_path / "seen", "prepare", name]
    command += words(tmp_path, name, "killed")
    killed = subprocess.run(
        [str(word) for word in command],
        env=environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert killed.returncode == 0, killed.stdout[-2000:]
    seen = (tmp_path / "seen").read_text().split()
    assert len(seen) == int(killed.stdout.split()[-1]) > 25
    for stage in (
        "raw/test",
        "tok/train",
        "bpe/vocabulary",
        "bpe/codes",
        "bpe/valid",
        "data-bin",
        "stages/data-bin",
    ):
        assert any(f"/{stage}" in path for path in seen), stage
    assert files(tmp_path / "killed") == files(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.subprocess
def test_killed_amid_a_stage_its_workers_end_and_no_part_is_taken_for_whole(tmp_path):
    iwslt14(tmp_path / "in", pairs=8000)
    script = [
        "bash",
        str(SCRIPTS / "prepare_iwslt14_de-en.sh"),
        *words(tmp_path, "iwslt14_de-en", jobs=2),
    ]
    process = subprocess.Popen(
        script, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "out" / "tok"
    wait_for(lambda: list(folder.glob("train.en.*.tmp")) and workers(process.pid))
    left = workers(process.pid)
    process.kill()
    process.wait()
    assert len(left) == 2
    wait_for(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in left))
    assert list(folder.glob("train.en.*.tmp")) and not (folder / "train.en").exists()
    whole = [folder / "train.de", folder.parent / "raw" / "train.de"]
    times = [path.stat().st_mtime_ns for path in whole]
    assert len(times) == 2
    assert prepare(tmp_path, jobs=2).returncode == 0
    assert not list(folder.glob("*.tmp")), "what a killed run left behind is removed"
    assert [path.stat().st_mtime_ns for path in whole] == times, "what was whole stays"
    assert prepare(tmp_path, dest="alone").returncode == 0
    assert files(tmp_path / "alone") == files(tmp_path / "out"), "as many processes as one likes"


def _refuse(message):
    raise AdminError(message)


def test_what_goes_wrong_in_a_child_arrives():
    assert in_child(sorted, "ba") == ["a", "b"]
    with pytest.raises(AdminError, match="^nothing to merge$"):
        in_child(_refuse, "nothing to merge")
    with pytest.raises(AdminError, match="was killed"):
        in_child(os._exit, 1)


def workers(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], stdout=subprocess.PIPE, text=True
    )
    return [int(word) for word in found.stdout.split()]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def assert_refused(tmp_path, result, *messages):
    assert result.returncode == 1, result.stdout
    for message in messages:
        assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "out" / "data-bin").exists() and not list(
        (tmp_path / "out").glob("raw/train.*[en]")
    )
    assert not [*(tmp_path / "out").rglob("*.part"), *(tmp_path / "out").rglob("*.tmp")]


def test_damaged_and_wrong_archives(tmp_path):
    iwslt14(tmp_path / "in")
    archive, known = tmp_path / "in" / "de-en.tgz", tmp_path / "manifest.ini"
    good = archive.read_bytes()
    manifest(known, tmp_path / "in")
    archive.write_bytes(good[:-100])
    assert_refused(
        tmp_path, prepare(tmp_path), "de-en.tgz: FAILED", "bytes where", "remove or replace"
    )
    archive.write_bytes(good[:-100] + bytes(100))
    assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz: FAILED: sha256")
    # where nothing is published, the archive's own checksum speaks
    manifest(known, tmp_path / "in", bytes="none published", sha256="none published")
    assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz is damaged")
    for cut in (0, 5, 300, len(good) // 2, len(good) - 4):
        archive.write_bytes(good[:cut])
        assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz is damaged")
    archive.write_bytes(gzip.compress(b"no tar at all" * 100))
    assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz is damaged")
    tar(archive, {"de-en/README": "another archive"})
    assert_refused(tmp_path, prepare(tmp_path), "holds no de-en/train.tags.de-en.de")
    archive.unlink()
    assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz is not there")
    archive.write_bytes(good)
    assert prepare(tmp_path).returncode == 0


def test_sides_that_are_not_aligned_and_empty_files(tmp_path):
    (tmp_path / "in").mkdir()
    own = recipe(
        tmp_path / "multi30k_en-de.ini",
        "multi30k_en-de",
        url="http://localhost:9",
        train="train.{lang}",
        valid="valid.{lang}",
        test="test.{lang}",
        test1="test.{lang}",
        test2="test.{lang}",
    )
    assert own.exists()
    (tmp_path / "manifest.ini").write_text("")
    for name in ("train", "valid", "test"):
        for lang in ("en", "de"):
            (tmp_path / "in" / f"{name}.{lang}").write_text(text_of(sentences(20, name + lang)))
    file = tmp_path / "in" / "train.de"
    file.write_text(text_of(sentences(19, "short")))
    result = prepare(tmp_path, "multi30k_en-de")
    assert_refused(
        tmp_path,
        result,
        "train.{lang}: the sides are not aligned: en has 20 lines, de has 19 lines",
    )
    file.write_text("")
    assert_refused(
        tmp_path,
        prepare(tmp_path, "multi30k_en-de"),
        "train.{lang}: empty: en has 20 lines, de has 0 lines",
    )
    file.write_text(text_of(sentences(20, "traindes")))
    assert prepare(tmp_path, "multi30k_en-de").returncode == 0


@pytest.mark.subprocess
def test_a_full_disk(tmp_path):
    iwslt14(tmp_path / "in", pairs=2500)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], stderr=subprocess.DEVNULL
    ).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        result = prepare(tmp_path, dest="disk/out")
        assert (
            result.returncode == 1
            and "is full" in result.stdout
            and "goes on where it stopped" in result.stdout
        )
        assert "Traceback" not in result.stdout
        assert (disk / "out" / "raw" / "train.de").exists() and not (
            disk / "out" / "data-bin"
        ).exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert prepare(tmp_path, dest="disk/out").returncode == 0
        assert prepare(tmp_path).returncode == 0
        assert files(disk / "out") == files(tmp_path / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_too_little_disk_is_said_before_anything_is_done(tmp_path):
    iwslt14(tmp_path / "in")
    recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en", disk_gb="1000000")
    assert_refused(
        tmp_path, prepare(tmp_path), "about 1e+06 GB are needed in all", "--no-disk-check"
    )


def test_mistakes_in_flags_and_recipes(tmp_path):
    iwslt14(tmp_path / "in")
    for flags, message in (
        (["--merges", "0"], "--merges 0: must be at least 1"),
        (["--jobs", "0"], "--jobs 0"),
        (["--recipe", "none"], "recipe none: no such file"),
        (["--news-commentary", "v9"], "this recipe has no such choice"),
        (["--from", tmp_path / "nowhere"], "no such folder"),
    ):
        result = bash("prepare_iwslt14_de-en.sh", *words(tmp_path, "iwslt14_de-en"), *flags)
        assert_refused(tmp_path, result, message)
    (tmp_path / "iwslt14_de-en.ini").write_text("[data]\nsource = de\nnonsense = 1\n")
    assert_refused(
        tmp_path,
        prepare(tmp_path),
        "target is missing",
        "train is missing",
        "nonsense: no such key",
    )


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "package, name", [("subword_nmt", "iwslt14_de-en"), ("num2words", "quickstart")]
)
def test_a_missing_package_is_named_with_the_way_out(tmp_path, package, name):
    program = f"""if True:
        import sys
        sys.modules["{package}"] = None
        from admin_fairseq.cli import main
        sys.exit(main(["prepare", "{name}", "--dest", "{tmp_path / "out"}"]))
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    message = f"error: {package} is not installed: pip install 'admin_fairseq[recipes]'"
    assert_refused(tmp_path, result, message)


def test_two_runs_do_not_mix(tmp_path):
    iwslt14(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(tmp_path, prepare(tmp_path), "in use by another run")
