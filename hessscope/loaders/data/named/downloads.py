"""Downloads by pooch, which compares checksums; here they resume and try several mirrors."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import urllib3
from filelock import FileLock

from hessscope.errors import DataError, DownloadError
from hessscope.loaders.integrity import blocks, check_file, check_room
from hessscope.progress import Progress, silent

_TIMEOUT = (10.0, 30.0)


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be had from several addresses.

    Attributes:
        name: its name on disk.
        sha256: of the file.
        urls: full addresses, tried in order.
    """

    name: str
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Resuming:
    """A pooch downloader that keeps what arrived in ``part`` and requests only the rest."""

    part: Path
    progress: Progress

    def __call__(self, url: str, output_file: str | os.PathLike[str], caller: object) -> None:
        """Download ``url`` to ``output_file`` (the signature is pooch's).

        Raises:
            requests.RequestException: the download failed, and pooch tries again.
            DownloadError: the file is not there or not allowed.
        """
        have = self.part.stat().st_size if self.part.exists() else 0
        # Without "identity" a server may pack the file anew, and the bytes would not be its own.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if have and response.status_code == 416:  # the part is as long as the file, or longer
                self.part.replace(output_file)  # pooch compares it
                return
            if 400 <= response.status_code < 500 and response.status_code != 429:
                raise DownloadError(f"the server answered {response.status_code} {response.reason}")
            response.raise_for_status()
            have = have if response.status_code == 206 else 0
            total = have + int(response.headers.get("Content-Length", 0))
            stage = f"download {self.part.stem}"
            self.progress(stage, have, total)
            try:
                with self.part.open("ab" if have else "wb") as file:
                    # Not iter_content, which would unpack what is sent as "gzip".
                    for block in response.raw.stream(1 << 16, decode_content=False):
                        have += file.write(block)
                        self.progress(stage, have, total)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from error
        self.part.replace(output_file)


def fetch(file: RemoteFile, folder: Path, progress: Progress = silent, tries: int = 4) -> Path:
    """Return the path of ``file`` in ``folder``, downloading it if it is not there.

    The file appears under its name only when it is complete and its checksum is right. What a
    failed download brought stays beside it as ``.part`` for the next try.

    Args:
        file: what to get.
        folder: where to keep it; made if need be.
        progress: called with the bytes.
        tries: connections to each address.

    Raises:
        DownloadError: no address gave the file; with the answer of each.
    """
    part = folder / f"{file.name}.part"
    problems = []
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # progress shows what pooch would log
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):  # other processes find it done
            for url in file.urls:
                store = pooch.create(
                    folder, "", None, registry={file.name: f"sha256:{file.sha256}"},
                    urls={file.name: url}, retry_if_failed=tries - 1,
                )  # fmt: skip
                try:
                    return Path(store.fetch(file.name, downloader=Resuming(part, progress)))
                except (requests.RequestException, DownloadError, ValueError) as error:
                    problems.append(f"{url}: {' '.join(str(error).split())[:300]}")
    except OSError as error:
        raise DownloadError(
            f"{file.name} cannot be written to {folder}: {error.strerror or error}. Make room or "
            "name a folder that has the file (`root`, or HESSSCOPE_DATA)."
        ) from error
    finally:
        logger.setLevel(level)
    kept = f"{part.stat().st_size:,} bytes are kept for the next try. " if part.exists() else ""
    raise DownloadError(
        f"{file.name} could not be downloaded: {'; '.join(problems)}. {kept}Check the connection "
        "and run again, or get the file by other means and name its folder (`root`, or "
        "HESSSCOPE_DATA)."
    )


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacking it when its content (not its name) says gzip.

    Raises:
        DataError: the file cannot be read, is empty, its gzip stream is damaged or cut short, or
            there is not enough memory for it.
    """
    try:
        check_file(path, DataError)
        with path.open("rb") as file:
            start = file.read(2)
        if start != b"\x1f\x8b":
            return path.read_bytes()
        content = bytearray()
        with gzip.open(path) as stream:
            # The size that a gzip file states is not to be relied on.
            for block in blocks(stream):
                content += block
                check_room(path, len(content), DataError)
        return bytes(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is damaged or cut short (gzip: {error}); delete it and get the file again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
