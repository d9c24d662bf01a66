"""Downloads: resumed, compared with what is published, from mirrors, and by a script."""

import hashlib
from http.server import BaseHTTPRequestHandler

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.corpus.download import download
from admin_fairseq.experiments.corpus.manifest import Archive
from tests.experiments.corpora import bash, iwslt14, manifest, recipe
from tests.experiments.local_server import LocalServer


class Server(LocalServer):
    """Serves ``content`` by path, and lists what was asked for.

    ``cut`` ends the first answer after so many bytes.
    """

    def __init__(self, content, cut=None, ranges=True):
        self.content, self.cut, self.ranges, self.asked = content, cut, ranges, []
        super().__init__(Handler)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        data = server.content.get(self.path)
        if data is None:
            return self.send_error(404)
        start = (
            int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        )
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
    return Archive(
        "file.tgz", tuple(server.url + path for path in paths or ("/file.tgz",)), **known
    )


DATA = bytes(range(256)) * 40_000


def fetch(tmp_path, wanted):
    download(wanted, str(tmp_path / "file.tgz"), pause=0)
    assert (tmp_path / "file.tgz").read_bytes() == DATA and not (
        tmp_path / "file.tgz.part"
    ).exists()


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
            with pytest.raises(AdminError):
                fetch(tmp_path, wanted)
            fetch(tmp_path, wanted)


def test_a_mirror_is_asked_where_the_first_address_has_another_file(tmp_path):
    with Server({"/wrong": DATA[:-1], "/right": DATA}) as server:
        fetch(
            tmp_path,
            archive(
                server, DATA, "/gone", "/wrong", "/right", sha256=hashlib.sha256(DATA).hexdigest()
            ),
        )
    assert [path for path, _ in server.asked] == ["/gone", "/wrong", "/right"]


def test_no_address_has_the_file(tmp_path):
    with Server({"/wrong": DATA}) as server:
        wanted = archive(server, DATA, "/gone", "/wrong", bytes=5)
        with pytest.raises(
            AdminError, match="(?s)--from DIR.*/gone: HTTP Error 404.*5 are published"
        ):
            fetch(tmp_path, wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_script_downloads_and_without_a_network_says_so(tmp_path):
    iwslt14(tmp_path / "in")
    content = {"/de-en.tgz": (tmp_path / "in" / "de-en.tgz").read_bytes()}
    own = recipe(tmp_path / "own.ini", "iwslt14_de-en")
    flags = [
        "--recipe",
        own,
        "--dest",
        tmp_path / "out",
        "--merges",
        40,
        "--jobs",
        1,
        "--manifest",
        tmp_path / "manifest.ini",
    ]
    manifest(tmp_path / "manifest.ini", tmp_path / "in")
    result = bash("prepare_iwslt14_de-en.sh", *flags)
    assert result.returncode == 1 and not (tmp_path / "out" / "raw").exists()
    assert all(
        words in result.stdout for words in ("cannot download de-en.tgz", "--from DIR", "refused")
    )
    with Server(content, cut=1000) as server:
        manifest(tmp_path / "manifest.ini", tmp_path / "in", url=server.url)
        assert bash("prepare_iwslt14_de-en.sh", *flags).returncode == 0
    assert server.asked == [("/de-en.tgz", None), ("/de-en.tgz", "bytes=1000-")]
    assert (tmp_path / "out" / "download" / "de-en.tgz").read_bytes() == content["/de-en.tgz"]
