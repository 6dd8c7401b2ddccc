"""Options of data: which examples, and how they are prepared."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from hessscope.errors import UnknownNameError
from hessscope.options.fields import DATA, Options, one_of, option, under, whole
from hessscope.registry import DATASETS

SPLITS = ("train", "test", "all")
_NORMALIZATIONS = ("center", "standardize", "none")


def data_source(value: Any) -> Any:
    """Read the name of a known data set; leave paths, specifications and objects as they are."""
    name = value.strip().lower().replace("-", "_") if isinstance(value, str) else value
    return name if isinstance(name, str) and name in DATASETS.points else value


def image_size(value: Any) -> str:
    """Read rows and columns from ``10``, ``"10x12"`` or ``(10, 12)``, as text."""
    parts = re.split("[x×,]", value.lower()) if isinstance(value, str) else value
    parts = parts if isinstance(parts, Sequence) else [parts]
    try:
        sizes = [whole(1)(part) for part in parts]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2) or max(sizes) > 10_000:
        raise ValueError("give 10, or 10x12 for 10 rows and 12 columns (at most 10000)")
    return str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]}x{sizes[1]}"


def normalization(value: Any) -> str:
    """Read ``center``, ``standardize``, ``none``, ``"mean/std"`` or a pair (mean, std), as text."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _NORMALIZATIONS:
            return text
        if "/" not in text and text[:1].isalpha():
            hint = "Or mean/std, such as 0.1307/0.3081."
            raise UnknownNameError("normalization", value, _NORMALIZATIONS, hint)
        value = [part.split(",") for part in text.split("/")]
    try:
        parts = [part if isinstance(part, Sequence) else [part] for part in value]
        mean, std = ([float(number) for number in part] for part in parts)
        if len(mean) != len(std) or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            "give mean/std as finite numbers, such as 0.1307/0.3081, or one per channel, "
            "0.5,0.4,0.4/0.2,0.2,0.2, with deviations above 0; or `normalize=standardize` to take "
            "them from the data"
        ) from None
    return "/".join(",".join(map(repr, part)) for part in (mean, std))


_data = under(DATA)


@dataclass(frozen=True, kw_only=True)
class Seed(Options):
    """The random seed."""

    seed: int = option(0, "Random seed: the same seed gives the same numbers.", "N", read=whole(0))


@dataclass(frozen=True)
class DataOptions(Seed):
    """Which examples, and how they are prepared."""

    data: Any = _data(
        None,
        f"{', '.join(DATASETS)}; a .npz, .pt, .safetensors or .h5 file; tokens (.bin, .npy), text "
        "(.txt) or tables (.parquet, a folder of datasets); file.py:factory. In Python also "
        "arrays, tensors, a torch data set, a DataLoader or a list of batches.",
        "DATA",
        data_source,
    )
    split: str | None = _data(
        None, "train (default), test or all.", "PART", one_of(SPLITS, "split")
    )
    _: KW_ONLY
    subset: int | None = _data(
        None, "Use N examples only, stratified by class, drawn with `seed`.", "N", whole(1)
    )
    root: str | Path | None = _data(
        None,
        "Folder with local copies of the named data sets. Default: HESSSCOPE_DATA, else a "
        "download.",
        "FOLDER",
        Path,
        flags=("--data-dir",),
    )
    resize: Any = _data(
        None, "Resize images to 10 (square) or 10x12 pixels, anti-aliased.", "SIZE", image_size
    )
    grayscale: bool | None = _data(None, "Convert colour images to greyscale.")
    normalize: Any = _data(
        None,
        "MEAN/STD such as 0.1307/0.3081 (commas between channels), center, standardize or none. "
        "Default: integer images / 255, floats as they are.",
        "HOW",
        normalization,
    )
    targets: str | None = _data(
        None,
        "inputs: the targets are the inputs (autoencoders).",
        "inputs",
        one_of(("inputs",), "kind of targets"),
    )
    context: int | None = _data(
        None,
        "Tokens in an example, of a file of tokens or text. Default: 256. Longer rows of a table "
        "are cut.",
        "T",
        whole(1),
    )
    tokenizer: Any = _data(
        None,
        "For text: a folder of transformers, a tokenizer.json, or characters (the sorted set of "
        "those in the file). In Python also a tokenizer.",
        "WHICH",
    )
    token_type: str | None = _data(
        None,
        "Type of the tokens in a .bin file: uint16 (default) or uint32.",
        "TYPE",
        one_of(("uint16", "uint32"), "type of tokens"),
    )
    stream: bool = _data(
        False,
        "Read the examples anew in each pass, as is done with those that would take more than a "
        "quarter of the free memory: files of tokens, memory maps, torch data sets.",
        decides=False,
    )
