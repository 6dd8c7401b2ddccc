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
        """Keep the dtype's name; raises ``PlainDataError`` for one that is not plain."""
        if isinstance(name, PlainDtype):
            name = name.dtype.str
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
        if len(state) == 9 and not _is_time_unit(state[8]):
            raise PlainDataError("a dtype with metadata")
        if order != "|":
            self.dtype = _plain(np.dtype(order + self.dtype.str[1:]))


def _is_time_unit(metadata: object) -> bool:
    return metadata is None or (isinstance(metadata, tuple) and len(metadata) == 2)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in _PLAIN_KINDS or dtype.hasobject or dtype.fields or dtype.subdtype:
        raise PlainDataError(f"a dtype of kind {dtype!r}, which is not plain numbers")
    return dtype


class PlainArray:
    """A NumPy array of plain numbers, rebuilt from its shape and bytes."""

    def __init__(self, *arguments: object) -> None:
        """Start empty; the state brings the content."""
        self.array: np.ndarray[Any, Any] = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        """Rebuild the array; raises ``PlainDataError`` or ``ValueError`` where that cannot be."""
        if not (isinstance(state, tuple) and len(state) == 5):
            raise PlainDataError("an unknown array state")
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, PlainDtype):
            raise PlainDataError("an array of unknown dtype")
        if isinstance(content, str):  # Python 2's byte strings
            content = content.encode("latin1")
        if not isinstance(content, (bytes, bytearray)):
            raise PlainDataError("an array of objects")
        flat = np.frombuffer(bytes(content), dtype=dtype.dtype)
        self.array = flat.reshape(tuple(shape), order="F" if fortran else "C").copy()


class PlainObject:
    """An object of a class that is known to be plain data; keeps its attributes, runs nothing."""

    def __init__(self, *arguments: object, **attributes: object) -> None:
        """Keep what the object was made from."""
        self.arguments = arguments
        self.attributes: dict[Any, object] = dict(attributes)

    def __new__(cls, *arguments: object, **attributes: object) -> PlainObject:
        """Make the object as ``__init__`` would, since unpickling may call only this."""
        instance = super().__new__(cls)
        instance.arguments = arguments
        instance.attributes = dict(attributes)
        return instance

    def __setstate__(self, state: object) -> None:
        """Keep the pickled attributes as a plain dictionary."""
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Mapping):
            self.attributes.update(state[1])
            state = state[0]
        if isinstance(state, Mapping):
            self.attributes.update(state)

    def __hash__(self) -> int:
        """Hash by identity: such objects are used as keys in old checkpoints."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Equal to nothing but itself."""
        return self is other


class PlainDict:
    """Makes an ordinary dictionary in place of a subclass that is known to add nothing."""

    def __new__(cls, *arguments: object) -> dict[Any, Any]:  # type: ignore[misc]
        """Give an empty dictionary; unpickling then fills it."""
        return {}


def plain_scalar(dtype: object, content: object = b"") -> object:
    """Rebuild a NumPy scalar as a Python number; raises ``PlainDataError`` unless it is plain."""
    if isinstance(content, str):
        content = content.encode("latin1")
    if not isinstance(dtype, PlainDtype) or not isinstance(content, (bytes, bytearray)):
        raise PlainDataError("a NumPy scalar that holds an object")
    values = np.frombuffer(bytes(content), dtype=dtype.dtype, count=1)
    return values[0].item()


def plain_reconstruct(*arguments: object) -> PlainArray:
    """Stand in for NumPy's ``_reconstruct`` (and ``_frombuffer`` is not needed: protocol 5)."""
    return PlainArray()


def plain_path(*parts: object) -> str:
    """Give a pickled path as text."""
    return "/".join(str(part) for part in parts).replace("//", "/")


def plain_mapping(*arguments: object) -> dict[Any, Any]:
    """Give a pickled ``defaultdict`` as an ordinary dictionary; its factory is dropped."""
    return {}


def plain_list(items: object = (), *arguments: object) -> list[Any]:
    """Give a pickled ``deque`` as a list."""
    return list(items) if isinstance(items, Iterable) else []


def plain_dtype_class(*arguments: object) -> PlainDtype:
    """Stand in for the classes of ``numpy.dtypes``, which are pickled by name only."""
    raise PlainDataError("a dtype class that is called")


def _names() -> dict[str, Callable[..., Any]]:
    names: dict[str, Callable[..., Any]] = {
        "numpy.dtype": PlainDtype,
        "numpy.ndarray": PlainArray,
        "argparse.Namespace": PlainObject,
        "types.SimpleNamespace": PlainObject,
        "collections.defaultdict": plain_mapping,
        "collections.deque": plain_list,
        "builtins.frozenset": frozenset,
        "builtins.dict": plain_mapping,
        "builtins.list": plain_list,
        "builtins.int": int,
        "builtins.float": float,
        "builtins.bool": bool,
        "builtins.str": str,
        "builtins.tuple": tuple,
        "builtins.slice": slice,
        "builtins.object": PlainObject,
        "typing.Any": PlainObject,
        "torch._utils.AttributeDict": PlainDict,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[f"{module}.scalar"] = plain_scalar
        names[f"{module}._reconstruct"] = plain_reconstruct
    for number in np.sctypeDict.values():
        names[f"numpy.{number.__name__}"] = PlainObject  # as a class only: never computed with
        kind = type(np.dtype(number))
        names[f"numpy.dtypes.{kind.__name__}"] = plain_dtype_class
    names.pop("numpy.object_", None)
    names.pop("numpy.dtypes.ObjectDType", None)
    for path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        names[f"pathlib.{path}"] = plain_path
        names[f"pathlib._local.{path}"] = plain_path  # Python 3.13's name
    for moment in ("datetime", "date", "time", "timedelta", "timezone"):
        names[f"datetime.{moment}"] = getattr(datetime, moment)
    for module in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        names[f"{module}.utilities.data.AttributeDict"] = PlainDict
        names[f"{module}.utilities.parsing.AttributeDict"] = PlainDict
    names["lightning.pytorch.utilities.parsing.AttributeDict"] = PlainDict
    return names


#: Pickled name of a harmless type or function -> what stands in for it.
PLAIN_GLOBALS: Mapping[str, Callable[..., Any]] = _names()

#: Packages whose objects are configuration or bookkeeping; kept as inert ``PlainObject``.
PLAIN_PACKAGES = ("omegaconf.", "pytorch_lightning.", "lightning.", "lightning_fabric.")


def stand_in(name: str) -> Callable[..., Any] | None:
    """Give what stands in for the pickled global ``name``, or ``None`` where it is not known."""
    known = PLAIN_GLOBALS.get(name)
    if known is None and name.startswith(PLAIN_PACKAGES):
        return PlainObject
    return known
