"""MNIST and Fashion-MNIST: two sets in the same four IDX files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.data.named.base import Content, NamedSet
from hessscope.loaders.data.named.downloads import RemoteFile, read_bytes

_PREFIX = {"train": "train", "test": "t10k"}
# SHA-256 of MNIST's label values (the decompressed file less its 8 header bytes).
_LABELS_OF_MNIST = (
    "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
)
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True, kw_only=True)
class IdxSet(NamedSet):
    """A set in the layout of MNIST.

    Attributes:
        name: "mnist" or "fashion_mnist".
        folders: where below a data folder the files may be (own name, torchvision's).
        mirrors: base addresses of the four gzipped files.
        checksums: SHA-256 of the images and the labels of each split.
    """

    name: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    checksums: Mapping[str, tuple[str, str]]
    full: ClassVar[Mapping[str, int]] = {"train": 60_000, "test": 10_000}

    def read(self, root: Path, split: str) -> Content | None:
        """Images (N, 28, 28) and labels (N,), bytes.

        Raises:
            DataError: only one of the two files is there, they are damaged, do not belong
                together, or are another set's.
        """
        # The two sets use the same file names: a folder that says "fashion" is not MNIST.
        fashion = "fashion" in "".join(root.resolve().parts[-2:]).lower()
        for folder in self.folders:
            if folder == "." and self.name == "mnist" and fashion:
                continue
            plain = [_file_name(split, kind) for kind in ("images", "labels")]
            found = [self.find(root / folder, n, n.replace("-idx", ".idx")) for n in plain]
            images, labels = found
            if images and labels:
                return self._load(images, labels, split)
            if images or labels:
                missing = plain[found.index(None)]
                raise DataError(f"{self.name}: {images or labels} is there, but {missing} is not.")
        return None

    def remote(self, split: str) -> tuple[RemoteFile, ...]:
        """Images and labels of a split."""
        names = [f"{_file_name(split, kind)}.gz" for kind in ("images", "labels")]
        return tuple(
            RemoteFile(name, checksum, tuple(base + name for base in self.mirrors))
            for name, checksum in zip(names, self.checksums[split], strict=True)
        )

    def _load(self, images_path: Path, labels_path: Path, split: str) -> Content:
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise DataError(
                f"{images_path}: expected images of bytes, found {images.dtype} {images.shape}."
            )
        if labels.ndim != 1 or len(labels) != len(images):
            raise DataError(
                f"{labels_path} does not belong to {images_path.name}: labels have shape "
                f"{labels.shape}, and there are {len(images):,} images."
            )
        notes = self.partial(len(images), split)
        is_mnist = hashlib.sha256(labels.tobytes()).hexdigest() in _LABELS_OF_MNIST
        if is_mnist and self.name != "mnist":
            raise DataError(f"{labels_path} is MNIST's, not {self.name}'s.")
        if not (is_mnist or notes or self.name != "mnist"):
            word = "training" if split == "train" else "test"
            notes = (f"the {word} labels are not those of the published MNIST",)
        return images, labels, notes


def _file_name(split: str, kind: str) -> str:
    return f"{_PREFIX[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, gzipped or not, as an array of the shape and type that it states.

    The format: two zero bytes, a type byte, the number of dimensions, each dimension as a
    big-endian 32-bit integer, then the values, big-endian, in C order.

    Raises:
        DataError: not an IDX file, or its length is not what its header says.
    """
    return parse_idx(read_bytes(path), str(path))


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """Parse the bytes of an IDX file; ``name`` is for messages. See :func:`read_idx`."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise DataError(
            f"{name} is not an IDX file: it starts with bytes {content[:4].hex(' ') or '(none)'}."
        )
    dtype, start = np.dtype(_IDX_TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{name} is cut short: it ends within its header.")
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    # Python integers, before anything is allocated: a damaged header may state any size.
    expected, found = dtype.itemsize * math.prod(shape), len(content) - start
    if found != expected:
        problem = "is cut short" if found < expected else "is longer than its header says"
        raise DataError(
            f"{name} {problem}: shape {shape} needs {expected:,} bytes of values, "
            f"the file has {found:,}."
        )
    values = np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


MNIST = IdxSet(
    name="mnist",
    folders=("mnist", "MNIST/raw", "MNIST", "mnist/MNIST/raw", "."),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    checksums={
        "train": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "test": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
)

FASHION_MNIST = IdxSet(
    name="fashion_mnist",
    folders=(
        "fashion_mnist",
        "fashion-mnist",
        "FashionMNIST/raw",
        "FashionMNIST",
        "fashion-mnist/FashionMNIST/raw",
        ".",
    ),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    checksums={
        "train": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "test": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
)
