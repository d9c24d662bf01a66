"""``prepare --check``: links, sizes, disk, without downloading or writing."""

import re
import sys
from http.server import BaseHTTPRequestHandler

import pytest

from admin_fairseq.cli import main
from admin_fairseq.experiments import corpus
from admin_fairseq.experiments.corpus.manifest import MANIFEST, read_manifest
from tests.experiments.corpora import iwslt14, manifest, preparation, recipe
from tests.experiments.local_server import LocalServer


class Server(LocalServer):
    """Announces sizes by path; ``head`` and ``ranges``: whether it takes such requests."""

    def __init__(self, sizes, head=True, ranges=True):
        self.sizes, self.head, self.ranges, self.sent = sizes, head, ranges, 0
        super().__init__(Handler)


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(whole=not self.server.head)

    def do_GET(self):
        assert not self.server.head or self.headers.get("Range") == "bytes=0-0"
        self.answer(whole=False, body=True)

    def answer(self, whole, body=False):
        size = self.server.sizes.get(self.path)
        if whole:
            return self.send_error(405)
        if size is None:
            return self.send_error(404)
        part = body and self.server.ranges
        self.send_response(206 if part else 200)
        self.send_header("Content-Length", "1" if part else str(size))
        if part:
            self.send_header("Content-Range", f"bytes 0-0/{size}")
        self.end_headers()
        if part:
            self.wfile.write(b"x")
            self.server.sent += 1

    def log_message(self, *args):
        pass


def check(capsys, *words):
    """Exit code and what was said."""
    code = main(["prepare", *map(str, words), "--check"])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out + said.err


@pytest.mark.parametrize("head, ranges", [(True, True), (False, True), (False, False)])
def test_links_and_sizes(tmp_path, capsys, head, ranges):
    iwslt14(tmp_path / "in")
    size = (tmp_path / "in" / "de-en.tgz").stat().st_size
    own, known = recipe(tmp_path / "own.ini", "iwslt14_de-en"), tmp_path / "manifest.ini"
    words = [own, "--manifest", known, "--dest", tmp_path / "out"]
    with Server({"/de-en.tgz": size}, head, ranges) as server:
        manifest(known, tmp_path / "in", url=server.url, known="2026-01-02, counted here")
        code, said = check(capsys, *words)
        assert code == 0, said
        assert f"{server.url}/de-en.tgz has it, {size:,} bytes" in said
        assert "compared by bytes, sha256 (2026-01-02, counted here)" in said
        assert "own can be prepared in" in said
        server.sizes["/de-en.tgz"] += 1
        code, said = check(capsys, *words)
        assert code == 1 and f"{size + 1:,} bytes where {size:,} are published" in said
        del server.sizes["/de-en.tgz"]
        code, said = check(capsys, *words)
        assert code == 1 and "de-en.tgz cannot be downloaded, bring it with --from DIR" in said
        assert "HTTP Error 404" in said
    code, said = check(capsys, *words)
    assert code == 1 and "refused" in said
    assert not (tmp_path / "out").exists(), "nothing is written"


def test_everything_wrong_at_once(tmp_path, capsys):
    iwslt14(tmp_path / "in")
    recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en", disk_gb="1000000")
    words = ["iwslt14_de-en", *preparation(tmp_path, "iwslt14_de-en")]
    (tmp_path / "in" / "de-en.tgz").write_bytes(b"short")
    code, said = check(capsys, *words)
    assert code == 1
    assert "about 1e+06 GB are needed" in said
    assert re.search(r"de-en\.tgz: 5 bytes where [\d,]+ are published", said)
    code, said = check(capsys, *words, "--no-disk-check")
    assert code == 1 and "GB are needed" not in said
    (tmp_path / "in" / "de-en.tgz").unlink()
    code, said = check(capsys, *words)
    assert code == 1 and "de-en.tgz is not there" in said


def test_files_that_are_there(tmp_path, capsys):
    iwslt14(tmp_path / "in")
    code, said = check(capsys, "iwslt14_de-en", *preparation(tmp_path, "iwslt14_de-en"))
    assert code == 0 and "in/de-en.tgz; compared by bytes, sha256 (the manifest says not" in said
    assert not (tmp_path / "out").exists()


def test_recipes_that_need_no_files(tmp_path, capsys, monkeypatch):
    assert check(capsys, "quickstart", "--dest", tmp_path / "out")[0] == 0
    code, said = check(capsys, "figures", "--dest", tmp_path / "out")
    assert code == 1 and "the data of quickstart: admin-fairseq prepare quickstart" in said
    module = "admin_fairseq.experiments.corpus.numbers_and_dates"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr(corpus, "numbers_and_dates", raising=False)
    monkeypatch.setitem(sys.modules, "num2words", None)
    code, said = check(capsys, "quickstart", "--dest", tmp_path / "out")
    assert code == 1 and "is not installed" in said


def test_the_manifest_says_when_and_how_its_checksums_were_known():
    for name, archive in read_manifest(MANIFEST).items():
        assert archive.known, name
        assert re.match(r"\d{4}-\d\d-\d\d, .*(bytes|md5|sha256).*", archive.known), name
        assert archive.md5 or archive.sha256 or "found none" in archive.known, name
