"""MNIST and Fashion-MNIST: two sets in the same four IDX files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hessscope.errors import DataError
from hessscope.loaders.data.downloads import RemoteFile
from hessscope.loaders.data.image_files import read_idx

_PREFIX = {"train": "train", "test": "t10k"}
_WORD = {"train": "training", "test": "test"}
_FULL = {"train": 60_000, "test": 10_000}
# SHA-256 of the label values (the decompressed file less its 8 header bytes).
_MNIST_LABELS = {
    "train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}


@dataclass(frozen=True)
class IdxSet:
    """A set in the layout of MNIST.

    Attributes:
        name: "mnist" or "fashion-mnist".
        folders: where below a data folder the files may be (own name, torchvision's).
        mirrors: base addresses that the four gzipped files can be had from.
        checksums: MD5 of the published gzipped files, by file name.
    """

    name: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    checksums: tuple[tuple[str, str], ...]

    def read(self, root: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
        """Return images (N, 28, 28) and labels (N,), uint8, and notes; None if not below root.

        Raises:
            DataError: only one of the two files is there, they are damaged, do not belong
                together, or are another set's.
        """
        for folder in self._places(root):
            images, labels = (_find(folder, split, kind) for kind in ("images", "labels"))
            if images is None and labels is None:
                continue
            if images is None or labels is None:
                there, missing = (images, "labels") if images else (labels, "images")
                raise DataError(
                    f"{self.name}: {there} is there, but {_names(split, missing)} is not."
                )
            return self._load(images, labels, split)
        return None

    def looked_for(self, root: Path, split: str) -> str:
        """Say in words what ``read`` looked for, and where."""
        splits = ("train", "test") if split == "all" else (split,)
        names = ", ".join(_names(part, kind) for part in splits for kind in ("images", "labels"))
        places = ", ".join(str(place) for place in self._places(root))
        return f"{names} (each also with .gz) in {places}"

    def files(self, split: str) -> tuple[RemoteFile, ...]:
        """Return the remote files that hold a split."""
        prefixes = tuple(_PREFIX.values()) if split == "all" else (_PREFIX[split],)
        return tuple(
            RemoteFile(name, f"md5:{md5}", tuple(mirror + name for mirror in self.mirrors))
            for name, md5 in self.checksums
            if name.startswith(prefixes)
        )

    def _places(self, root: Path) -> Iterator[Path]:
        for folder in self.folders:
            yield root / folder
        # The two sets use the same file names: a folder that says "fashion" is not MNIST.
        own = "".join(root.resolve().parts[-2:]).lower()
        if self.name != "mnist" or "fashion" not in own:
            yield root

    def _load(
        self, images_path: Path, labels_path: Path, split: str
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
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
        if len(images) == 0:
            raise DataError(f"{images_path} holds no images.")
        notes: tuple[str, ...] = ()
        full = _FULL[split]
        if len(images) < full:
            notes = (f"{len(images):,} of the {full:,} {_WORD[split]} images are there",)
        elif len(images) == full:
            is_mnist = hashlib.sha256(labels.tobytes()).hexdigest() == _MNIST_LABELS[split]
            if self.name == "mnist" and not is_mnist:
                notes = (f"the {_WORD[split]} labels are not those of the published MNIST",)
            if self.name != "mnist" and is_mnist:
                raise DataError(f"{labels_path} is MNIST's, not {self.name}'s.")
        return images, labels, notes


def _names(split: str, kind: str) -> str:
    return f"{_PREFIX[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"


def _find(folder: Path, split: str, kind: str) -> Path | None:
    plain = _names(split, kind)
    for name in (plain, plain.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


MNIST = IdxSet(
    "mnist",
    ("mnist", "MNIST/raw", "MNIST", "mnist/MNIST/raw"),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    (
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
)

FASHION = IdxSet(
    "fashion-mnist",
    ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion-mnist/FashionMNIST/raw"),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    (
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
)
