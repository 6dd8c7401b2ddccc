"""Inert stand-ins for harmless types that checkpoints often carry beside the weights.

``torch.load(weights_only=True)`` knows tensors and Python's own containers only, and refuses a
file for one NumPy number. The names below are resolved to the functions and classes of this
module instead of the real ones: they keep the data and run nothing of NumPy, pathlib or
omegaconf, so that no crafted state can reach code there (a NumPy dtype of objects, for instance,
is refused here before NumPy sees it).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

#: Kinds of NumPy dtypes that hold plain numbers, truth values, text or times; never objects.
_PLAIN_KINDS = frozenset("biufcSUmM")


class PlainDataError(Exception):
    """Something that is not plain data where plain data was expected."""


class PlainDtype:
    """A NumPy dtype of plain numbers or text, rebuilt from its pickled name and byte order."""

    def __init__(self, name: object = "f8", align: object = False, copy: object = True) -> None:
        if isinstance(name, bytes):
            name = name.decode("ascii", "strict")
        if not isinstance(name, str):
            raise PlainDataError(f"a dtype named by {type(name).__name__}")
        self.dtype: np.dtype[Any] = _plain(np.dtype(name))

    def __setstate__(self, state: object) -> None:
        """Take over the byte order; fields, subarrays and metadata are refused."""
        if not (isinstance(state, tuple) and len(state) in (8, 9)):
            raise PlainDataError("an unknown dtype state")
        order, subarray, names, fields = state[1:5]
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if (subarray, names, fields) != (None, None, None) or order not in ("<", ">", "=", "|"):
            raise PlainDataError("a dtype with fields")
        unit = state[8] if len(state) == 9 else None  # of times
        if unit is not None and not (isinstance(unit, tuple) and len(unit) == 2):
            raise PlainDataError("a dtype with metadata")
        if order != "|":
            self.dtype = _plain(np.dtype(order + self.dtype.str[1:]))


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in _PLAIN_KINDS or dtype.hasobject or dtype.fields or dtype.subdtype:
        raise PlainDataError(f"a dtype of kind {dtype!r}, which is not plain numbers")
    return dtype


class PlainArray(np.ndarray):
    """A NumPy array of plain numbers, rebuilt from its shape and bytes."""

    def __new__(cls, *arguments: object) -> PlainArray:
        """Start empty, whatever the arguments; the state brings the content."""
        return super().__new__(cls, (0,))

    def __setstate__(self, state: Any) -> None:
        """Rebuild the array; raises ``PlainDataError`` or ``ValueError`` where that cannot be."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise PlainDataError("an unknown array state")
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):
            content = content.encode("latin1")
        if not isinstance(dtype, PlainDtype) or not isinstance(content, (bytes, bytearray)):
            raise PlainDataError("an array of objects")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise PlainDataError("an array of an unknown shape")
        rebuilt: Any = (1, tuple(shape), dtype.dtype, bool(fortran), bytes(content))
        super().__setstate__(rebuilt)


class PlainObject:
    """An object of a class that is known to be plain data; keeps its attributes, runs nothing."""

    attributes: dict[Any, object]

    def __new__(cls, *arguments: object, **attributes: object) -> PlainObject:
        """Keep what the object was made from."""
        instance = super().__new__(cls)
        instance.attributes = dict(attributes)
        return instance

    def __setstate__(self, state: object) -> None:
        """Keep the pickled attributes as a plain dictionary."""
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Mapping):
            self.attributes.update(state[1])
            state = state[0]
        if isinstance(state, Mapping):
            self.attributes.update(state)


def plain_scalar(dtype: object, content: object = b"") -> object:
    """Rebuild a NumPy scalar as a Python number; raises ``PlainDataError`` unless it is plain."""
    if isinstance(content, str):
        content = content.encode("latin1")
    if not isinstance(dtype, PlainDtype) or not isinstance(content, (bytes, bytearray)):
        raise PlainDataError("a NumPy scalar that holds an object")
    return np.frombuffer(bytes(content), dtype=dtype.dtype, count=1)[0].item()


def _plain_path(*parts: object) -> str:
    return "/".join(str(part) for part in parts).replace("//", "/")


def _plain_mapping(*arguments: object) -> dict[Any, Any]:
    return {}  # of a defaultdict the factory is dropped; unpickling fills it


def _plain_list(items: object = (), *arguments: object) -> list[Any]:
    return list(items) if isinstance(items, Iterable) else []


def _names() -> dict[str, Callable[..., Any]]:
    own = (frozenset, int, float, bool, str, tuple, slice)
    names: dict[str, Callable[..., Any]] = {
        **{f"builtins.{kind.__name__}": kind for kind in own},
        "builtins.dict": _plain_mapping,
        "builtins.list": _plain_list,
        "builtins.object": PlainObject,
        "typing.Any": PlainObject,
        "argparse.Namespace": PlainObject,
        "types.SimpleNamespace": PlainObject,
        "collections.defaultdict": _plain_mapping,
        "collections.deque": _plain_list,
        "torch._utils.AttributeDict": dict,
        "lightning.pytorch.utilities.parsing.AttributeDict": dict,
        "numpy.dtype": PlainDtype,
        "numpy.ndarray": PlainArray,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[f"{module}.scalar"] = plain_scalar
        names[f"{module}._reconstruct"] = PlainArray
    for number in set(np.sctypeDict.values()) - {np.object_}:  # as classes only
        names[f"numpy.{number.__name__}"] = PlainObject
        names[f"numpy.dtypes.{type(np.dtype(number)).__name__}"] = PlainObject
    for path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        names[f"pathlib.{path}"] = _plain_path
        names[f"pathlib._local.{path}"] = _plain_path  # Python 3.13's name
    for moment in ("datetime", "date", "time", "timedelta", "timezone"):
        names[f"datetime.{moment}"] = getattr(datetime, moment)
    for module in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        names[f"{module}.utilities.data.AttributeDict"] = dict
        names[f"{module}.utilities.parsing.AttributeDict"] = dict
    return names


#: Pickled name of a harmless type or function -> what stands in for it.
PLAIN_GLOBALS: Mapping[str, Callable[..., Any]] = _names()

#: Packages whose objects are configuration or bookkeeping; kept as inert ``PlainObject``.
PLAIN_PACKAGES = ("omegaconf.", "pytorch_lightning.", "lightning.", "lightning_fabric.")


def stand_in(name: str) -> Callable[..., Any] | None:
    """Give what stands in for the pickled global ``name``, or ``None`` where it is not known."""
    known = PLAIN_GLOBALS.get(name)
    return PlainObject if known is None and name.startswith(PLAIN_PACKAGES) else known
