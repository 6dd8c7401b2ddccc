"""Downloads that go on where they were cut, from several mirrors, and are checked."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from hessscope.errors import DownloadError
from hessscope.progress import Progress, silent

_CHUNK = 1 << 16
_REMEDY = (
    "Check the connection and run again, or get the file by other means and name its folder "
    "(--data-dir, or HESSSCOPE_DATA)."
)


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be had from any of some addresses.

    Attributes:
        name: its name on disk.
        checksum: ``"md5:…"`` or ``"sha256:…"``.
        urls: full addresses, tried in order.
    """

    name: str
    checksum: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class ResumableDownload:
    """A pooch downloader that keeps what arrived in ``<name>.part`` and asks only for the rest.

    Attributes:
        part: where the bytes gather; it stays when the download fails.
        progress: told (stage, bytes so far, bytes in all).
        tries: connections to one address before giving up; a try that brought something new
            does not count.
        timeout: seconds to wait for a connection, and for the next bytes.
        pause: seconds before trying again, doubled each time.
    """

    part: Path
    progress: Progress = silent
    tries: int = 3
    timeout: tuple[float, float] = (10.0, 30.0)
    pause: float = 1.0

    def __call__(self, url: str, output_file: str | os.PathLike[str], caller: object) -> None:
        """Download ``url`` to ``output_file`` (the signature is pooch's).

        Raises:
            requests.RequestException: what went wrong at the last try.
            OSError: the file cannot be written.
        """
        failures = 0
        while True:
            before = self._size()
            try:
                self._attempt(url)
                break
            except requests.RequestException as error:
                status = error.response.status_code if error.response is not None else 0
                if 400 <= status < 500 and status != requests.codes.too_many_requests:
                    raise  # not there, or not allowed: asking again gives the same
                failures = 0 if self._size() > before else failures + 1
                if failures >= self.tries:
                    raise
                time.sleep(self.pause * 2 ** max(0, failures - 1))
        Path(self.part).replace(output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, url: str) -> None:
        have = self._size()
        # Without "identity" a server may pack the file anew, and the bytes would not be its own.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
                if have and total == str(have):
                    return  # all of it had arrived before
                self.part.unlink(missing_ok=True)
                raise requests.ConnectionError("the kept part does not fit the file; starting anew")
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content or not _starts_at(
                response.headers.get("Content-Range", ""), have
            ):
                have = 0  # the server sends the whole file
            length = response.headers.get("Content-Length")
            total_size = have + int(length) if length else 0
            stage = f"download {self.part.name.removesuffix('.part')}"
            self.progress(stage, have, total_size)
            with self.part.open("ab" if have else "wb") as file:
                for block in _blocks(response):
                    file.write(block)
                    have += len(block)
                    self.progress(stage, have, total_size)
            if total_size and have < total_size:
                raise requests.ConnectionError(
                    f"the connection ended after {have:,} of {total_size:,} bytes"
                )


def fetch(
    file: RemoteFile,
    folder: Path,
    progress: Progress = silent,
    tries: int = 3,
    timeout: tuple[float, float] = (10.0, 30.0),
    pause: float = 1.0,
) -> Path:
    """Return the path of ``file`` in ``folder``, downloading it if it is not there.

    The file appears under its name only when it is complete and its checksum is right. What a
    failed download brought stays beside it as ``.part`` for the next try. A file with a wrong
    checksum is dropped and downloaded once more.

    Args:
        file: what to get.
        folder: where to keep it; made if need be.
        progress: told the bytes.
        tries: see :class:`ResumableDownload`, as for ``timeout`` and ``pause``.
        timeout: seconds to connect, and to wait for the next bytes.
        pause: seconds before trying again.

    Raises:
        DownloadError: no address gave the file; says what each of them answered.
    """
    part = folder / f"{file.name}.part"
    download = ResumableDownload(part, progress, tries, timeout, pause)
    problems: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{file.name}.lock"), _quiet_pooch():
            for url in (*file.urls, *file.urls[:1]):
                # The first address comes once more only after a wrong checksum.
                if len(problems) == len(file.urls) and "checksum" not in problems[0]:
                    break
                try:
                    return Path(
                        pooch.retrieve(
                            url,
                            known_hash=file.checksum,
                            fname=file.name,
                            path=folder,
                            downloader=download,
                        )
                    )
                except requests.RequestException as error:
                    problems.append(f"{url}: {_short(error)}")
                except ValueError as error:  # pooch: the hash does not match
                    problems.append(f"{url}: wrong checksum ({' '.join(str(error).split())[:200]})")
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise DownloadError(
            f"{file.name} cannot be written to {folder}: {error.strerror or error}. Make room or "
            "name a folder that has the file (--data-dir, or HESSSCOPE_DATA)."
        ) from error
    kept = part.stat().st_size if part.exists() else 0
    raise DownloadError(
        f"{file.name} could not be downloaded: {'; '.join(problems)}. "
        + (f"{kept:,} bytes are kept and need not be sent again. " if kept else "")
        + _REMEDY
    )


def _starts_at(content_range: str, start: int) -> bool:
    return content_range.replace("bytes", "").strip().partition("-")[0] == str(start)


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Raw bytes, with every way in which a connection may break as a requests exception."""
    try:
        # Not iter_content, which would unpack a file that is served as "Content-Encoding: gzip".
        yield from response.raw.stream(_CHUNK, decode_content=False)
    except requests.RequestException:
        raise
    except OSError as error:
        raise requests.ConnectionError(str(error)) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("urllib3", "http"):
            raise
        raise requests.ConnectionError(str(error)) from error


def _short(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    text = " ".join(str(error).split())
    if "NameResolution" in text or "getaddrinfo" in text or "Name or service" in text:
        return "the address cannot be resolved (no internet connection?)"
    if "Connection refused" in text:
        return "connection refused"
    return text[:160] or type(error).__name__


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from logging what progress already shows."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time download a file; the next one finds it done."""
    try:
        import fcntl
    except ImportError:  # Windows: two downloads at once end in a checksum error and a new try
        yield
        return
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
