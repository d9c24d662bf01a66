"""Preparation that is killed, or meets bad files, a full disk or no network; and downloads."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from corpora import SCRIPTS, bash, environment, files, iwslt14, manifest, recipe, sentences, tar, text_of, wmt14

# runs the preparation, and kills it before the first renaming that no run before has got to
KILLED = """
import os, signal, sys
from corpus.cli import main
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
sys.exit(main(sys.argv[1:]))
"""


def words(tmp_path, name, dest="out", jobs=1):
    own = tmp_path / f"{name}.ini"
    if not own.exists():
        recipe(own, name)
    known = tmp_path / "manifest.ini"
    if not known.exists():
        manifest(known, tmp_path / "in")
    flags = ["--recipe", own, "--manifest", known, "--from", tmp_path / "in", "--dest", tmp_path / dest]
    return [str(word) for word in [*flags, "--merges", 40, "--jobs", jobs]]


def prepare(tmp_path, name="iwslt14_de-en", dest="out", jobs=1):
    return bash(f"prepare_{name.replace('30k_en-de', '30k')}.sh", *words(tmp_path, name, dest, jobs))


@pytest.mark.parametrize("name", ["iwslt14_de-en", "wmt14_en-de"])
def test_killed_before_every_renaming_it_ends_with_the_same_files(tmp_path, name):
    iwslt14(tmp_path / "in", pairs=120) if name.startswith("iwslt") else wmt14(tmp_path / "in", "de", pairs=15)
    result = prepare(tmp_path, name)
    assert result.returncode == 0, result.stdout
    command = [sys.executable, "-c", KILLED, tmp_path / "seen", *words(tmp_path, name, "killed")]
    kills, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        code = subprocess.run(
            [str(word) for word in command],
            env={**environment(), "PYTHONPATH": str(SCRIPTS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
        kills += 1
    assert code == 0
    seen = (tmp_path / "seen").read_text().split()
    assert len(seen) == kills - 1 > 25
    for stage in ("raw/test", "tok/train", "bpe/vocabulary", "bpe/codes", "bpe/valid", "data-bin", "stages/data-bin"):
        assert any(f"/{stage}" in path for path in seen), stage
    assert files(tmp_path / "killed") == files(tmp_path / "out")


def test_killed_amid_a_stage_its_workers_end_and_no_part_is_taken_for_whole(tmp_path):
    iwslt14(tmp_path / "in", pairs=15_000)
    script = ["bash", str(SCRIPTS / "prepare_iwslt14_de-en.sh"), *words(tmp_path, "iwslt14_de-en", jobs=2)]
    process = subprocess.Popen(script, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part = tmp_path / "out" / "tok" / "train.en.part"
    wait_for(lambda: part.exists() and workers(process.pid))
    left = workers(process.pid)
    process.kill()
    process.wait()
    assert len(left) == 2
    wait_for(lambda: not any(os.path.exists(f"/proc/{worker}") for worker in left))
    assert part.exists() and not (tmp_path / "out" / "tok" / "train.en").exists()
    whole = [part.parent / "train.de", part.parent.parent / "raw" / "train.de"]
    times = [path.stat().st_mtime_ns for path in whole]
    assert len(times) == 2
    assert prepare(tmp_path, jobs=2).returncode == 0
    assert [path.stat().st_mtime_ns for path in whole] == times, "what was whole stays"
    assert prepare(tmp_path, dest="alone").returncode == 0
    assert files(tmp_path / "alone") == files(tmp_path / "out"), "as many processes as one likes"


def workers(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], stdout=subprocess.PIPE, text=True)
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
    assert not (tmp_path / "out" / "data-bin").exists() and not list((tmp_path / "out").glob("raw/train.*[en]"))
    assert not list((tmp_path / "out").rglob("*.part"))


def test_damaged_and_wrong_archives(tmp_path):
    iwslt14(tmp_path / "in")
    archive, known = tmp_path / "in" / "de-en.tgz", tmp_path / "manifest.ini"
    good = archive.read_bytes()
    manifest(known, tmp_path / "in")
    archive.write_bytes(good[:-100])
    assert_refused(tmp_path, prepare(tmp_path), "de-en.tgz: FAILED", "bytes where", "remove or replace")
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
        tmp_path / "multi30k_en-de.ini", "multi30k_en-de", url="http://localhost:9", test1="test.{lang}", test2="test.{lang}",
        train="train.{lang}", valid="valid.{lang}", test="test.{lang}",
    )  # fmt: skip
    assert own.exists()
    (tmp_path / "manifest.ini").write_text("")
    for name in ("train", "valid", "test"):
        for lang in ("en", "de"):
            (tmp_path / "in" / f"{name}.{lang}").write_text(text_of(sentences(20, name + lang)))
    file = tmp_path / "in" / "train.de"
    file.write_text(text_of(sentences(19, "short")))
    result = prepare(tmp_path, "multi30k_en-de")
    assert_refused(tmp_path, result, "train.{lang}: the sides are not aligned: en has 20 lines, de has 19 lines")
    file.write_text("")
    assert_refused(tmp_path, prepare(tmp_path, "multi30k_en-de"), "train.{lang}: empty: en has 20 lines, de has 0 lines")
    file.write_text(text_of(sentences(20, "traindes")))
    assert prepare(tmp_path, "multi30k_en-de").returncode == 0


def test_a_full_disk(tmp_path):
    iwslt14(tmp_path / "in", pairs=2500)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", disk], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        result = prepare(tmp_path, dest="disk/out")
        assert result.returncode == 1 and "is full" in result.stdout and "goes on where it stopped" in result.stdout
        assert "Traceback" not in result.stdout
        assert (disk / "out" / "raw" / "train.de").exists() and not (disk / "out" / "data-bin").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert prepare(tmp_path, dest="disk/out").returncode == 0
        assert prepare(tmp_path).returncode == 0
        assert files(disk / "out") == files(tmp_path / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_too_little_disk_is_said_before_anything_is_done(tmp_path):
    iwslt14(tmp_path / "in")
    recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en", disk_gb="1000000")
    assert_refused(tmp_path, prepare(tmp_path), "about 1e+06 GB are needed in all", "--no-disk-check")


def test_mistakes_in_flags_and_recipes(tmp_path):
    iwslt14(tmp_path / "in")
    for flags, message in (
        (["--merges", "0"], "merges must be at least 1"),
        (["--jobs", "0"], "--jobs 0"),
        (["--recipe", "none"], "--recipe none: there is no file"),
        (["--news-commentary", "v9"], "this recipe has no such choice"),
        (["--from", tmp_path / "nowhere"], "no such folder"),
    ):
        result = bash("prepare_iwslt14_de-en.sh", *words(tmp_path, "iwslt14_de-en"), *flags)
        assert_refused(tmp_path, result, message)
    (tmp_path / "iwslt14_de-en.ini").write_text("[data]\nsource = de\nnonsense = 1\n")
    assert_refused(tmp_path, prepare(tmp_path), "target is missing", "train is missing", "nonsense: no such key")


def test_two_runs_do_not_mix(tmp_path):
    import fcntl

    iwslt14(tmp_path / "in")
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(tmp_path, prepare(tmp_path), "in use by another run")


# ------------------------------------------------------------------------------------------------------- downloads


class Server(ThreadingHTTPServer):
    """Serves ``content`` by path; ``cut`` ends the first answer after so many bytes; counts what was asked for."""

    def __init__(self, content, cut=None, ranges=True):
        super().__init__(("localhost", 0), Handler)
        self.content, self.cut, self.ranges, self.asked = content, cut, ranges, []
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://localhost:{self.server_port}"

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        data = server.content.get(self.path)
        if data is None:
            return self.send_error(404)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if start >= len(data) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end, server.cut = (start + server.cut, None) if server.cut else (None, None)
        self.wfile.write(data[start:end])

    def log_message(self, *args):
        pass


def archive(server, data, *paths, **known):
    from corpus.manifest import Archive

    return Archive("file.tgz", tuple(server.url + path for path in paths or ("/file.tgz",)), **known)


DATA = bytes(range(256)) * 40_000


def fetch(tmp_path, wanted):
    from corpus.download import download

    download(wanted, str(tmp_path / "file.tgz"), pause=0)
    assert (tmp_path / "file.tgz").read_bytes() == DATA and not (tmp_path / "file.tgz.part").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_stopped(tmp_path, ranges):
    digest = hashlib.sha256(DATA).hexdigest()
    with Server({"/file.tgz": DATA}, cut=3_000_000, ranges=ranges) as server:
        fetch(tmp_path, archive(server, DATA, bytes=len(DATA), sha256=digest))
    assert server.asked == [("/file.tgz", None), ("/file.tgz", "bytes=3000000-")]


def test_a_download_that_was_killed_goes_on(tmp_path):
    (tmp_path / "file.tgz.part").write_bytes(DATA[:1000])
    with Server({"/file.tgz": DATA}) as server:
        fetch(tmp_path, archive(server, DATA, sha256=hashlib.sha256(DATA).hexdigest()))
    assert server.asked == [("/file.tgz", "bytes=1000-")]


@pytest.mark.parametrize("there", [DATA, DATA + b"more"])
def test_a_part_that_is_whole_or_too_long(tmp_path, there):
    (tmp_path / "file.tgz.part").write_bytes(there)
    with Server({"/file.tgz": DATA}) as server:
        wanted = archive(server, DATA, md5=hashlib.md5(DATA).hexdigest())
        if there == DATA:
            fetch(tmp_path, wanted)
        else:
            from corpus.errors import CorpusError

            with pytest.raises(CorpusError):
                fetch(tmp_path, wanted)
            fetch(tmp_path, wanted)


def test_a_mirror_is_asked_where_the_first_address_has_another_file(tmp_path):
    with Server({"/wrong": DATA[:-1], "/right": DATA}) as server:
        fetch(tmp_path, archive(server, DATA, "/gone", "/wrong", "/right", sha256=hashlib.sha256(DATA).hexdigest()))
    assert [path for path, _ in server.asked] == ["/gone", "/wrong", "/right"]


def test_no_address_has_the_file(tmp_path):
    from corpus.errors import CorpusError

    with Server({"/wrong": DATA}) as server:
        wanted = archive(server, DATA, "/gone", "/wrong", bytes=5)
        with pytest.raises(CorpusError, match="(?s)--from DIR.*/gone: HTTP Error 404.*5 are published"):
            fetch(tmp_path, wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_script_downloads_and_without_a_network_says_so(tmp_path):
    iwslt14(tmp_path / "in")
    content = {"/de-en.tgz": (tmp_path / "in" / "de-en.tgz").read_bytes()}
    own = recipe(tmp_path / "own.ini", "iwslt14_de-en")
    flags = ["--recipe", own, "--dest", tmp_path / "out", "--merges", 40, "--jobs", 1, "--manifest", tmp_path / "manifest.ini"]
    manifest(tmp_path / "manifest.ini", tmp_path / "in")
    assert_refused(tmp_path, bash("prepare_iwslt14_de-en.sh", *flags), "cannot download de-en.tgz", "--from DIR", "refused")
    with Server(content, cut=1000) as server:
        manifest(tmp_path / "manifest.ini", tmp_path / "in", url=server.url)
        assert bash("prepare_iwslt14_de-en.sh", *flags).returncode == 0
    assert server.asked == [("/de-en.tgz", None), ("/de-en.tgz", "bytes=1000-")]
    assert (tmp_path / "out" / "download" / "de-en.tgz").read_bytes() == content["/de-en.tgz"]
