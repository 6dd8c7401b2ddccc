"""The handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hessscope.loaders.data.named.base import Content, NamedSet


class Digits(NamedSet):
    """The digits, which come with scikit-learn and are not divided."""

    name = "digits"
    splits = ("all",)
    levels = 16

    def read(self, root: Path, split: str) -> Content:
        """Images (N, 8, 8) and labels (N,)."""
        # Imported here: scikit-learn takes a second, and only this set needs it.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images.astype(np.uint8), bunch.target.astype(np.int64), ()


DIGITS = Digits()
