"""Downloads against a server on this machine: resuming, mirrors, checksums, what goes wrong."""

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from hessscope.errors import DataError, DownloadError
from hessscope.loaders.data.named import RemoteFile, load_named
from hessscope.loaders.data.named.cifar10 import CIFAR10
from hessscope.loaders.data.named.downloads import fetch
from hessscope.loaders.data.named.mnist import FASHION_MNIST, MNIST, IdxSet

CONTENT = np.random.default_rng(0).bytes(300_000)
SAMPLE = Path(__file__).parent / "data" / "mnist"


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked."""

    files: dict[str, bytes]
    ranges: bool = True
    cut: list[int] = field(default_factory=list)  # bytes after which to hang up, per request
    status: int = 200
    busy: int = 0  # answers 503 so often
    requests: list[str] = field(default_factory=list)  # the Range of each request
    url: str = ""


@contextmanager
def serve(files):
    site = Site(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.requests.append(self.headers.get("Range", ""))
            content = site.files.get(self.path.rpartition("/")[2])
            if site.busy:
                site.busy -= 1
                self.send_error(503)
                return
            if content is None or site.status != 200:
                self.send_error(404 if content is None else site.status)
                return
            start = 0
            if site.ranges and "Range" in self.headers:
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - start))
            # As some servers do with .gz files; the bytes on disk must be those of the file.
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            stop = start + site.cut.pop(0) if site.cut else len(content)
            self.wfile.write(content[start:stop])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def site():
    with serve({"file.bin": CONTENT}) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HESSSCOPE_DATA", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def remote(*bases: str, content: bytes = CONTENT) -> RemoteFile:
    checksum = hashlib.sha256(content).hexdigest()
    return RemoteFile("file.bin", checksum, tuple(base + "file.bin" for base in bases))


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def test_a_file_arrives_whole_with_progress_and_is_kept(site, tmp_path):
    seen = []
    path = fetch(remote(site.url), tmp_path / "new", progress=lambda *args: seen.append(args))
    assert path == tmp_path / "new" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert seen[0] == ("download file.bin", 0, len(CONTENT))
    assert seen[-1] == ("download file.bin", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert {p.name for p in path.parent.iterdir()} <= {"file.bin", ".file.bin.lock"}
    fetch(remote(site.url), tmp_path / "new")
    assert len(site.requests) == 1  # the second time it is there


def test_a_cut_connection_is_taken_up_again(site, tmp_path):
    site.cut = [100_000, 50_000]
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.requests == ["", "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on_where_an_earlier_one_stopped(site, tmp_path):
    site.cut = [100_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"100,000 bytes are kept.*`root`"):
        fetch(remote(site.url), tmp_path)
    assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:100_000]
    site.cut, site.requests = [], []
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.requests == ["bytes=100000-"]


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    site.ranges, site.cut = False, [100_000]
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_all_of_it(site, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_dropped(site, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT


def test_a_wrong_part_is_noticed_and_the_file_downloaded_again(site, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 100_000)
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT
    assert site.requests == ["bytes=100000-", ""]


def test_a_damaged_file_in_the_cache_is_replaced(site, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"damaged")
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_tried_again_and_then_reported(site, tmp_path):
    site.files["file.bin"] = b"something else"
    with pytest.raises(DownloadError, match="does not match the known hash"):
        fetch(remote(site.url), tmp_path)
    assert len(site.requests) == 4
    assert not (tmp_path / "file.bin").exists()


def test_the_next_mirror_is_asked(site, tmp_path):
    with serve({}) as empty, serve({"file.bin": b"wrong"}) as wrong:
        path = fetch(remote(unused_address(), empty.url, wrong.url, site.url), tmp_path)
    assert path.read_bytes() == CONTENT


def test_not_there(site, tmp_path):
    site.files.clear()
    with pytest.raises(DownloadError, match=r"answered 404 .*`root`"):
        fetch(remote(site.url), tmp_path)
    assert len(site.requests) == 1  # asking again would give the same


def test_a_busy_server_is_asked_again(site, tmp_path):
    site.busy = 2
    assert fetch(remote(site.url), tmp_path).read_bytes() == CONTENT


def test_offline(tmp_path):
    with pytest.raises(DownloadError, match="Connection refused"):
        fetch(remote(unused_address()), tmp_path)


def test_no_such_host(tmp_path):
    with pytest.raises(DownloadError, match=r"file\.bin could not be downloaded"):
        fetch(remote("http://no-such-host.invalid/"), tmp_path, tries=1)


def test_a_folder_that_cannot_be_made(site, tmp_path):
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(remote(site.url), tmp_path / "blocked" / "below")


def test_two_at_once_download_once(site, tmp_path):
    threads = [threading.Thread(target=fetch, args=(remote(site.url), tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(site.requests) == 1


def mnist_from(url: str) -> IdxSet:
    sums = {
        split: tuple(
            hashlib.sha256((SAMPLE / file.name).read_bytes()).hexdigest()
            for file in MNIST.remote(split)
        )
        for split in ("train", "test")
    }
    return replace(MNIST, mirrors=(url,), checksums=sums)


def test_a_named_set_is_downloaded_split_by_split_into_the_cache(tmp_path, monkeypatch):
    files = {path.name: path.read_bytes() for path in SAMPLE.glob("*.gz")}
    monkeypatch.setenv("HESSSCOPE_DATA", str(tmp_path))  # a folder that does not have the set
    with serve(files) as site:
        source = mnist_from(site.url)
        raw = load_named(source, "train", cache=tmp_path / "cache")
        assert raw.inputs.shape == (800, 28, 28)
        assert len(site.requests) == 2
        assert raw.every_split is not None
        assert [len(part) for part in raw.every_split()] == [800, 200]  # which gets the test files
        assert len(site.requests) == 4
        load_named(source, "all", cache=tmp_path / "cache")
        assert len(site.requests) == 4


def test_a_named_folder_is_never_filled_from_the_net(tmp_path):
    with serve({}) as site, pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load_named(mnist_from(site.url), "train", root=tmp_path)
    assert not site.requests


def test_cifar10_comes_as_an_archive(tmp_path):
    rng = np.random.default_rng(0)
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for name in ("test_batch.bin", "data_batch_2.bin", "data_batch_1.bin", "readme.html"):
            records = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
            records[:, 0] = 2 if name == "data_batch_2.bin" else 1
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = records.nbytes
            archive.addfile(info, io.BytesIO(records.tobytes()))
    content = memory.getvalue()
    with serve({"cifar-10-binary.tar.gz": content}) as site:
        source = replace(
            CIFAR10,
            mirrors=(site.url,),
            checksum=hashlib.sha256(content).hexdigest(),
        )
        raw = load_named(source, "all", cache=tmp_path)
    assert raw.inputs.shape == (60, 3, 32, 32)
    assert raw.targets.tolist() == [1] * 20 + [2] * 20 + [1] * 20
    assert "data_batch_1, data_batch_2 only" in raw.notes[0]
    archive_path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    archive_path.write_bytes(content[:-2000])
    with pytest.raises(DataError, match="damaged or cut short"):
        load_named(source, "train", root=tmp_path)


def test_every_published_file_has_addresses_and_a_checksum():
    for source in (MNIST, FASHION_MNIST, CIFAR10):
        for split in ("train", "test"):
            files = source.remote(split)
            assert len(files) == (1 if source is CIFAR10 else 2)
            for file in files:
                assert len(bytes.fromhex(file.sha256)) == 32
                assert all(url.endswith("/" + file.name) for url in file.urls)
    assert [file.name[:5] for file in MNIST.remote("test")] == ["t10k-", "t10k-"]
