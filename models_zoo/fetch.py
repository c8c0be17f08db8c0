"""The one verified downloader: weights and datasets, by SHA-256, into the user's cache.

A file is known by the SHA-256 of its bytes (of its *unzipped* bytes where the public copies are gzip files packed in
different ways), and lies in the cache under that digest. Nothing is parsed before size and digest have been checked,
on every use. A partial download is resumed; mirrors are tried in turn; only https is spoken, and http to this machine.

Written here because the library for it (pooch) neither resumes, nor bounds the size while reading, nor verifies the
unzipped bytes of a re-packed file.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import ipaddress
import os
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Final

import platformdirs
from filelock import FileLock

from models_zoo.errors import DigestError, FetchError

CACHE_VARIABLE: Final = "CURVEBOARD_CACHE"
ATTEMPTS: Final = 4
BLOCK: Final = 1 << 16
TIMEOUT: Final = 30.0
PAUSE = 0.5
"""Seconds before the second attempt at one address; doubled for each further one."""


@dataclass(frozen=True)
class RemoteFile:
    """A public file and how to recognise it.

    Attributes:
        name: Its name, for messages; the suffix says its format.
        urls: Its addresses, tried in turn.
        size: Bytes, of the unzipped file where ``gunzip``.
        sha256: Digest in hexadecimal, of the unzipped bytes where ``gunzip``.
        gunzip: Whether the addresses hold it gzip-packed; the cache holds it unzipped.
    """

    name: str
    urls: tuple[str, ...]
    size: int
    sha256: str
    gunzip: bool = False


def cache_folder() -> Path:
    """The user's cache: ``$CURVEBOARD_CACHE``, else the platform's place for caches."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).expanduser() if override else platformdirs.user_cache_path("curveboard")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(path: Path, *, name: str, size: int, sha256: str) -> None:
    """Check a file's size and digest.

    Raises:
        DigestError: If either differs; the message names both.
    """
    seen = path.stat().st_size
    if seen != size:
        short = "It is truncated; " if seen < size else ""
        raise DigestError(
            f"{name} ({path}) has {seen} bytes, expected {size}. {short}{html_hint(path)}"
            "replace it by the right file, or correct its size and digest where they are stated."
        )
    digest = sha256_of(path)
    if digest != sha256:
        raise DigestError(
            f"{name} ({path}) has SHA-256 {digest}, expected {sha256}. It is not the file that was asked for and was "
            "not read. Replace it by the right file, or correct the digest where it is stated."
        )


def fetch(file: RemoteFile, *, cache: Path | None = None, progress: bool = True) -> Path:
    """The verified local copy of a public file, downloaded if need be.

    Args:
        file: What to fetch.
        cache: The cache folder; by default `cache_folder`.
        progress: Whether to draw a progress bar (on a terminal only).

    Returns:
        Where it lies, with the digest that was asked for.

    Raises:
        DigestError: If what the addresses hold is another file.
        FetchError: If no address gives it; the message names each with its cause.
    """
    home = cache_folder() if cache is None else cache
    target = home / file.sha256
    if _holds(target, file):
        return target
    try:
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f"{file.sha256}.lock"):
            if not _holds(target, file):
                _download(file, target, progress=progress)
    except OSError as error:
        raise FetchError(
            f"The cache {home} cannot be written ({error}). Free some space, or set {CACHE_VARIABLE} to another folder."
        ) from error
    return target


def is_cached(file: RemoteFile) -> bool:
    """Whether the user's cache holds the file, so that no address would be asked."""
    return _holds(cache_folder() / file.sha256, file)


def seed(paths: Iterable[Path], wanted: Iterable[RemoteFile], *, cache: Path | None = None) -> list[RemoteFile]:
    """Put the local files that are wanted into the cache, recognised by size and digest alone.

    Args:
        paths: Files, and folders that are searched for files.
        wanted: The files that entries and datasets know.
        cache: The cache folder; by default `cache_folder`.

    Returns:
        The files that the cache now holds thanks to ``paths``.
    """
    home = cache_folder() if cache is None else cache
    home.mkdir(parents=True, exist_ok=True)
    known = {file.sha256: file for file in wanted}
    sizes = {file.size for file in known.values()}
    unzipped = max((file.size for file in known.values() if file.gunzip), default=0)
    found = []
    for path in _files(paths):
        if path.stat().st_size in sizes and (file := known.get(sha256_of(path))):
            found.append(file)
            _place(home / file.sha256, path)
        elif path.suffix == ".gz" and unzipped:
            with _scratch(home) as scratch:
                try:
                    _gunzip(path, scratch, limit=unzipped)
                except FetchError:
                    continue
                if file := known.get(sha256_of(scratch)):
                    found.append(file)
                    _place(home / file.sha256, scratch)
    return found


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file())
        elif path.is_file():
            yield path
        else:
            raise FetchError(f"There is no file or folder {path} to take files from.")


def _place(target: Path, source: Path) -> None:
    """Copy ``source`` to ``target`` so that no reader ever sees a part of it."""
    with _scratch(target.parent) as scratch:
        shutil.copyfile(source, scratch)
        scratch.replace(target)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A file of one's own in ``folder``, gone at the end unless it was moved away."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _holds(target: Path, file: RemoteFile) -> bool:
    """Whether the cache has the file; a damaged copy is as good as none."""
    return target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256


def _download(file: RemoteFile, target: Path, *, progress: bool) -> None:
    failures = []
    wrong_file = False
    for url in file.urls:
        part = target.with_suffix(f".{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        try:
            _download_from(url, file, part, target, progress=progress)
            return
        except FetchError as error:
            wrong_file |= isinstance(error, DigestError)
            failures.append(f"  {url}: {error}")
    advice = (
        f"Check the connection, or have the file already? `curveboard zoo seed FOLDER` takes it into {target.parent}."
    )
    kind = DigestError if wrong_file else FetchError
    raise kind(
        "\n".join([f"{file.name} could not be fetched from any of its {len(failures)} addresses.", *failures, advice])
    )


def _download_from(url: str, file: RemoteFile, part: Path, target: Path, *, progress: bool) -> None:
    """Download from one address, verify, and move into place."""
    resumed = part.exists()
    _attempt(url, file, part, progress=progress)
    try:
        _accept(file, part, target)
    except DigestError:
        if not resumed:
            raise
        # The beginning came from an earlier day; the file may have changed in between. Once more, from zero.
        _attempt(url, file, part, progress=progress)
        _accept(file, part, target)


def _accept(file: RemoteFile, part: Path, target: Path) -> None:
    try:
        if file.gunzip:
            with _scratch(target.parent) as scratch:
                _gunzip(part, scratch, limit=file.size)
                verify(scratch, name=file.name, size=file.size, sha256=file.sha256)
                scratch.replace(target)
        else:
            verify(part, name=file.name, size=file.size, sha256=file.sha256)
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _attempt(url: str, file: RemoteFile, part: Path, *, progress: bool) -> None:
    """Bring ``part`` to its full length, resuming after interruptions."""
    _check_address(url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, file, part, progress=progress)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)  # what we have is not a beginning of what they have
            elif error.code < 500 and error.code not in (408, 429):
                raise FetchError(f"the server answers {error.code} {error.reason}") from error
            cause: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            cause = error
        if attempt < ATTEMPTS:
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise FetchError(f"{ATTEMPTS} attempts failed, the last with {cause}") from cause


def _transfer(url: str, file: RemoteFile, part: Path, *, progress: bool) -> None:
    """One request: append what is missing to ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "curveboard", "Accept-Encoding": "identity"})  # noqa: S310 - address checked
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _OPENER.open(request, timeout=TIMEOUT) as answer:
        resuming = have > 0 and _continues(answer, have)
        if not resuming:
            have = 0
        announced = answer.headers.get("Content-Length")
        total = have + int(announced) if announced and announced.isdigit() else None
        # A gzip file is at most a little larger than what it holds.
        limit = file.size + file.size // 100 + 4096 if file.gunzip else file.size
        with part.open("ab" if resuming else "wb") as out, _bar(file.name, total, enabled=progress) as advance:
            try:
                _copy(answer, out, have=have, limit=limit, advance=advance)
            except FetchError as error:
                out.flush()
                page = html_hint(part)
                part.unlink()
                raise DigestError(f"{page}{error}") from error
    have = part.stat().st_size
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)
    if page := html_hint(part):
        part.unlink()
        raise DigestError(page + "the address is no direct link any more.")


def _copy(answer: IO[bytes], out: IO[bytes], *, have: int, limit: int, advance: Callable[[int], object]) -> None:
    while block := answer.read(BLOCK):
        have += len(block)
        out.write(block)
        advance(have)
        if have > limit:
            raise FetchError(f"the address sends more than the {limit} bytes that are expected.")


def _continues(answer: http.client.HTTPResponse, have: int) -> bool:
    """Whether an answer goes on where we left off."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return answer.status == http.client.PARTIAL_CONTENT and found is not None and int(found[1]) == have


@contextmanager
def _bar(name: str, total: int | None, *, enabled: bool) -> Iterator[Callable[[int], object]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not enabled) as progress:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)


def _gunzip(path: Path, out: Path, *, limit: int) -> None:
    """Unzip, stopping at ``limit`` bytes: a small file can unzip to a thousand times its size."""
    done = 0
    try:
        with gzip.open(path, "rb") as source, out.open("wb") as sink:
            while block := source.read(BLOCK):
                done += len(block)
                if done > limit:
                    raise DigestError(f"it unzips to more than the {limit} bytes that are expected.")
                sink.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DigestError(f"it is no whole gzip file ({error}).") from error


def html_hint(path: Path) -> str:
    """A sentence if the file is an HTML page, as expired and sign-in links give; else nothing."""
    with path.open("rb") as stream:
        start = stream.read(2048)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith((b"<!doctype html", b"<html", b"<head")):
        return ""
    title = re.search(rb"<title[^>]*>([^<]{0,80})", start, re.IGNORECASE)
    called = f" titled {title[1].decode(errors='replace').strip()!r}" if title else ""
    return f"It is an HTML page{called}, not the file (an expired link, a sign-in or a download-warning page); "


def _check_address(url: str) -> None:
    """Refuse whatever is not https, or http to this machine itself."""
    parts = urllib.parse.urlsplit(url)
    if not ((parts.scheme == "https" and parts.hostname) or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        raise FetchError(f"only https addresses are fetched, this is {parts.scheme or 'no'}: {url!r}.")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that could have been asked for in the first place, and never down from https."""

    def redirect_request(  # noqa: PLR0917 - the signature is urllib's
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        _check_address(newurl)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise FetchError(f"the server redirects from https to {newurl!r}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https only: file and ftp addresses have no handler at all."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CheckedRedirects(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER: Final = _opener()
