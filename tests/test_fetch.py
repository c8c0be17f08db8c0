"""The downloader: what it accepts is exactly the file that was asked for, whatever servers do."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models_zoo import fetch as fetch_module
from models_zoo.errors import DigestError, FetchError
from models_zoo.fetch import RemoteFile, fetch, seed

CONTENT = bytes(range(256)) * 1000


class Server(http.server.ThreadingHTTPServer):
    """A web server on this machine that misbehaves as told by the address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/redirect/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/busy-once" and len(self.server.requests) == 1:
            self.send_error(503)
            return
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and self.path != "/no-ranges" else 0  # type: ignore[index]
        if start >= len(body) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path.startswith("/cuts") and not start:
            self.wfile.write(body[:100_000])  # and the line goes dead
            return
        self.wfile.write(body[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch_module, "PAUSE", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def file_at(*urls: str, content: bytes = CONTENT, gunzip: bool = False) -> RemoteFile:
    return RemoteFile("weights.bin", urls, len(content), hashlib.sha256(content).hexdigest(), gunzip=gunzip)


def leftovers(cache: Path) -> list[str]:
    return [p.name for p in cache.iterdir() if p.suffix in {".part", ".tmp"}]


def test_a_file_is_downloaded_once_and_lies_under_its_digest(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = CONTENT
    file = file_at(server.url("/w"))
    path = fetch(file, cache=tmp_path)
    assert path == tmp_path / file.sha256
    assert path.read_bytes() == CONTENT
    assert fetch(file, cache=tmp_path) == path
    assert len(server.requests) == 1
    assert leftovers(tmp_path) == []


def test_a_broken_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.files["/cuts"] = CONTENT
    assert fetch(file_at(server.url("/cuts")), cache=tmp_path).read_bytes() == CONTENT
    assert [r for _, r in server.requests] == [None, "bytes=100000-"]


def test_a_partial_download_of_an_earlier_day_is_resumed(server: Server, tmp_path: Path) -> None:
    file = file_at(server.url("/w"))
    with pytest.raises(FetchError):
        fetch(file, cache=tmp_path)  # not there yet
    _part_of(file, tmp_path).write_bytes(CONTENT[:5000])
    server.files["/w"] = CONTENT
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == ("/w", "bytes=5000-")


def test_a_partial_download_of_another_version_is_begun_again(server: Server, tmp_path: Path) -> None:
    file = file_at(server.url("/w"))
    _part_of(file, tmp_path).write_bytes(b"x" * 5000)
    server.files["/w"] = CONTENT
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT
    assert [r for _, r in server.requests] == ["bytes=5000-", None]


def test_a_partial_download_longer_than_the_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    file = file_at(server.url("/w"))
    _part_of(file, tmp_path).write_bytes(CONTENT + b"more")
    server.files["/w"] = CONTENT
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(server: Server, tmp_path: Path) -> None:
    file = file_at(server.url("/no-ranges"))
    _part_of(file, tmp_path).write_bytes(CONTENT[:5000])
    server.files["/no-ranges"] = CONTENT
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["/busy-once"] = CONTENT
    assert fetch(file_at(server.url("/busy-once")), cache=tmp_path).read_bytes() == CONTENT


def test_the_next_mirror_is_tried_when_one_has_no_or_another_file(server: Server, tmp_path: Path) -> None:
    server.files |= {"/other": b"y" * len(CONTENT), "/right": CONTENT}
    file = file_at(server.url("/gone"), server.url("/other"), server.url("/right"))
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT


def test_another_file_is_refused_with_both_digests(server: Server, tmp_path: Path) -> None:
    other = b"y" * len(CONTENT)
    server.files["/w"] = other
    file = file_at(server.url("/w"))
    with pytest.raises(DigestError) as caught:
        fetch(file, cache=tmp_path)
    assert file.sha256 in str(caught.value)
    assert hashlib.sha256(other).hexdigest() in str(caught.value)
    assert not (tmp_path / file.sha256).exists()
    assert leftovers(tmp_path) == []


def test_a_short_file_is_called_truncated(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = CONTENT[:1000]
    with pytest.raises(DigestError, match=r"has 1000 bytes, expected 256000\. It is truncated"):
        fetch(file_at(server.url("/w")), cache=tmp_path)


def test_reading_stops_when_more_comes_than_expected(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = b"z" * (len(CONTENT) + (1 << 22))
    with pytest.raises(DigestError, match="sends more than the 256000 bytes"):
        fetch(file_at(server.url("/w")), cache=tmp_path)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("size", [100, len(CONTENT), len(CONTENT) + 100_000])
def test_a_page_where_weights_should_be_is_recognised(server: Server, tmp_path: Path, size: int) -> None:
    page = b"\n<!DOCTYPE html><html><head><title>Sign in - Drive</title></head>"
    server.files["/w"] = page + b" " * (size - len(page))
    with pytest.raises(DigestError, match="HTML page titled 'Sign in - Drive'"):
        fetch(file_at(server.url("/w")), cache=tmp_path)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/w", "http://example.org/w", "/etc/passwd", "https:///w", "data:,x"]
)
def test_only_https_is_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match="only https addresses are fetched"):
        fetch(file_at(url), cache=tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://example.org/w", "ftp://example.org/w"])
def test_a_redirect_leads_nowhere_else_either(server: Server, tmp_path: Path, target: str) -> None:
    with pytest.raises(FetchError, match=r"only https addresses are fetched|is not allowed"):
        fetch(file_at(server.url(f"/redirect/{target}")), cache=tmp_path)


def test_a_redirect_to_an_allowed_address_is_followed(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = CONTENT
    url = server.url("/redirect/" + server.url("/w"))
    assert fetch(file_at(url), cache=tmp_path).read_bytes() == CONTENT


def test_a_packed_file_is_known_by_its_unpacked_bytes(server: Server, tmp_path: Path) -> None:
    server.files["/w.gz"] = gzip.compress(CONTENT, compresslevel=1)
    assert fetch(file_at(server.url("/w.gz"), gunzip=True), cache=tmp_path).read_bytes() == CONTENT


def test_a_gzip_bomb_stops_at_the_expected_size(server: Server, tmp_path: Path) -> None:
    server.files["/w.gz"] = gzip.compress(bytes(20_000_000), compresslevel=9)[: len(CONTENT)]
    with pytest.raises(DigestError, match="unzips to more than the 256000 bytes"):
        fetch(file_at(server.url("/w.gz"), gunzip=True), cache=tmp_path)
    assert leftovers(tmp_path) == []


def test_a_cut_gzip_file_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["/w.gz"] = gzip.compress(CONTENT)[:-20]
    with pytest.raises(DigestError, match="no whole gzip file"):
        fetch(file_at(server.url("/w.gz"), gunzip=True), cache=tmp_path)


def test_a_damaged_cached_file_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = CONTENT
    file = file_at(server.url("/w"))
    path = fetch(file, cache=tmp_path)
    path.write_bytes(b"!" + CONTENT[1:])
    assert fetch(file, cache=tmp_path).read_bytes() == CONTENT


def test_without_any_answer_the_error_names_each_address_and_the_way_out(server: Server, tmp_path: Path) -> None:
    one, two = server.url("/one"), server.url("/two")
    with pytest.raises(FetchError) as caught:
        fetch(file_at(one, two), cache=tmp_path)
    assert "the server answers 404" in str(caught.value)
    assert one in str(caught.value)
    assert two in str(caught.value)
    assert "curveboard zoo seed" in str(caught.value)


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = CONTENT
    file = file_at(server.url("/w"))
    threads = [threading.Thread(target=fetch, args=(file,), kwargs={"cache": tmp_path}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / file.sha256).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_cache_that_cannot_be_made_is_an_error_with_a_way_out(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FetchError, match="CURVEBOARD_CACHE"):
        fetch(file_at(server.url("/w")), cache=tmp_path / "file")


def test_seeding_takes_what_is_wanted_under_any_name_and_nothing_else(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "renamed").write_bytes(CONTENT)
    (source / "same-size").write_bytes(b"q" * len(CONTENT))
    (source / "labels.gz").write_bytes(gzip.compress(b"labels"))
    (source / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    packed = file_at("https://example.org/labels.gz", content=b"labels", gunzip=True)
    plain = file_at("https://example.org/w")
    assert set(seed([source], [plain, packed], cache=cache)) == {plain, packed}
    assert {p.name for p in cache.iterdir()} == {plain.sha256, packed.sha256}
    assert fetch(plain, cache=cache).read_bytes() == CONTENT  # no address is asked


def _part_of(file: RemoteFile, cache: Path) -> Path:
    """Where an interrupted download of the file's first address waits to be taken up."""
    return cache / f"{file.sha256}.{hashlib.sha256(file.urls[0].encode()).hexdigest()[:8]}.part"
