"""Files of tokens and of text, cut into examples, and the tokenizers for texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hessscope.errors import DataError, OptionError
from hessscope.loaders import integrity
from hessscope.loaders.data import batches, named_inputs
from hessscope.loaders.data.arrays import RawData
from hessscope.loaders.extras import extra
from hessscope.options.data import DataOptions

#: Files of tokens; the last one is read by its tokenizer.
SUFFIXES = (".bin", ".npy", ".txt")
_CONTEXT = 256
_CHARACTERS = "characters"
#: First numbers of llm.c's token files.
_HEADERS = {20240520, 20240801}


def read_tokens(path: Path, options: DataOptions) -> RawData:
    """Cut the tokens of a file into examples of ``context``; the targets are the tokens themselves.

    ``.bin`` has unsigned integers of 2 or 4 bytes in the order of this machine, as nanoGPT writes
    them; ``.npy`` integers in one dimension; ``.txt`` text in UTF-8. Arrays of other dimensions in
    ``.npy`` are inputs without targets.

    Raises:
        DataError: the file is missing, damaged, or shorter than one example.
        OptionError: options do not fit the kind of file.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no data file {path}.")
    _check_options(path, kind, options)
    integrity.check_file(path, DataError, whole=kind == ".txt")
    if kind == ".txt":
        tokens, how = _text_tokens(path, options.tokenizer)
    elif kind == ".bin":
        tokens, how = _stored_tokens(path, np.dtype(options.token_type or "uint16")), ""
    else:
        tokens, how = _array(path), ""
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            return RawData(batches.stored(tokens, path.name), None, path.name, "all")
    length = options.context or _CONTEXT
    count, rest = divmod(len(tokens), length)
    if count == 0:
        raise DataError(
            f"{path} has {len(tokens):,} tokens, fewer than an example of {length}: give `context`."
        )
    cut = tokens[: count * length].reshape(count, length)
    windows = batches.stored(cut, path.name, np.int64)
    notes = (
        f"{len(tokens):,} tokens{how} as {count:,} examples of {length}"
        + f", {rest:,} at the end left out" * bool(rest),
        "the targets are the tokens themselves, for `loss=next_token`",
    )
    return RawData(windows, windows, path.name, "all", notes)


def _check_options(path: Path, kind: str, options: DataOptions) -> None:
    if options.split == "test":
        raise DataError(f"{path} is not divided into train and test: use it whole (`split=all`).")
    if options.token_type and kind != ".bin":
        raise OptionError(f"`token_type` is that of .bin files, and {path} has its own.")
    if (kind == ".txt") != (options.tokenizer is not None):
        raise OptionError(
            f"{path}: text needs `tokenizer`: a folder of transformers, a tokenizer.json, or "
            f"`tokenizer={_CHARACTERS}`."
            if kind == ".txt"
            else f"{path} has tokens already: leave out `tokenizer`."
        )


def _stored_tokens(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if path.stat().st_size % dtype.itemsize:
        raise DataError(
            f"{path} has {path.stat().st_size:,} bytes, no whole number of tokens of type {dtype}."
        )
    tokens: npt.NDArray[Any] = np.memmap(path, dtype, "r")
    if set(np.fromfile(path, "<i4", 1).tolist()) & _HEADERS:
        raise DataError(
            f"{path} begins with the header of llm.c's files: give the tokens without it, as in "
            "numpy.fromfile(path, type, offset=1024).tofile(new_path)."
        )
    high = tokens[1 : 2 * (len(tokens) // 2) : 2]
    # Numbers of vocabularies below 2^20, stored in four bytes: each second half is small.
    if dtype == np.uint16 and len(high) > 8 and int(high.max()) < 16 <= int(tokens.max()):
        raise DataError(
            f"{path}: each second number of 16 bits is below 16, as in tokens of 32 bits: give "
            "`token_type=uint32`, or save such tokens of 16 bits as .npy."
        )
    return tokens


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        whole = isinstance(found, np.memmap) and found.offset + found.nbytes == path.stat().st_size
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is not a .npy file of numbers, or is damaged ({error})."
        ) from error
    if not whole:
        raise DataError(f"{path} is damaged: it has not the size that it states.")
    return found


def _text_tokens(path: Path, tokenizer: Any) -> tuple[npt.NDArray[Any], str]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error}).") from error
    if tokenizer == _CHARACTERS:
        points = np.frombuffer(text.encode("utf-32-le"), "<u4")
        known, tokens = np.unique(points, return_inverse=True)
        return tokens, f" of {len(known)} characters"
    return np.asarray(encoder(tokenizer, special=False)(text)), f" by {_called(tokenizer)}"


def encoder(tokenizer: Any, *, special: bool, length: int | None = None) -> Callable[[str], Any]:
    """A function from a text to its tokens.

    Args:
        tokenizer: a folder of transformers, a ``tokenizer.json``, or a tokenizer of transformers or
            tokenizers.
        special: whether to add the tokens that inputs of the model begin and end with.
        length: to cut longer texts to.

    Raises:
        OptionError: it is no tokenizer, or its package is not installed.
    """
    if isinstance(tokenizer, (str, os.PathLike)):
        path = Path(tokenizer).expanduser()
        what = f"`tokenizer={tokenizer}`"
        try:
            if path.suffix == ".json" and path.is_file():
                tokenizer = extra("tokenizers", "hf", what).Tokenizer.from_file(str(path))
            elif path.is_dir():
                kinds = extra("transformers", "hf", what).AutoTokenizer
                tokenizer = kinds.from_pretrained(path, local_files_only=True)
            else:
                raise OptionError(
                    f"{what}: give a folder of transformers or a tokenizer.json"
                    + f" ({_CHARACTERS} is for .txt files)" * (tokenizer == _CHARACTERS)
                )
        except OptionError:
            raise
        except Exception as error:  # whatever the packages raise for what they do not know
            raise OptionError(
                f"{what} cannot be read: {' '.join(str(error).split())[:200]}"
            ) from error
    if hasattr(tokenizer, "to_str"):  # of tokenizers: a copy, without the lengths that it states
        own = type(tokenizer).from_str(tokenizer.to_str())
        own.no_padding()
        own.enable_truncation(length) if length else own.no_truncation()
        return lambda text: own.encode(text, add_special_tokens=special).ids
    if not callable(tokenizer):
        raise OptionError(f"`tokenizer` is a {type(tokenizer).__name__}, which is no tokenizer")
    return lambda text: tokenizer(
        text,
        add_special_tokens=special,
        truncation=length is not None,
        max_length=length,
        verbose=False,
    )["input_ids"]


class Tokenized(torch.utils.data.Dataset[Mapping[str, Any]]):
    """Examples of a data set with tokens in the place of their text.

    Args:
        source: examples as dicts, one entry of which is text.
        options: the tokenizer, and the length to cut to.
        name: for messages.

    Raises:
        DataError: there are several texts, or none.
    """

    def __init__(self, source: Any, options: DataOptions, name: str) -> None:
        texts = [key for key, value in source[0].items() if isinstance(value, str)]
        chosen = ["text"] if "text" in texts else texts
        if len(chosen) != 1 or named_inputs.is_named(source[0]):
            raise DataError(
                f"{name}: `tokenizer` takes examples with one text, and these have "
                f"{', '.join(source[0])}: tokenise them yourself, or leave out `tokenizer`."
            )
        self._source, self._text = source, chosen[0]
        self._encode = encoder(options.tokenizer, special=True, length=options.context)
        self.note = f"tokens of '{self._text}' by {_called(options.tokenizer)}"
        self.note += f", cut at {options.context}" * bool(options.context)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> Mapping[str, Any]:
        example = dict(self._source[i])
        return {**example, "input_ids": self._encode(example.pop(self._text))}


def _called(tokenizer: Any) -> str:
    path = isinstance(tokenizer, (str, os.PathLike))
    return Path(tokenizer).name if path else type(tokenizer).__name__
