"""Pickled files, opened safely by default and as code only on the user's word.

The safe way is ``torch.load(weights_only=True)`` with the inert stand-ins of ``plain_types``;
nothing that the file names is imported or called. The trusted way is an ordinary unpickler that
can take classes from a module file that the user gives, under the name that they were pickled
by, so that ``__main__`` is never touched.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders import integrity
from hessscope.loaders.plain_types import PlainDataError, stand_in

#: First object of a file written by ``torch.save`` before its zip format (torch 1.6).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
#: Names in one file; more are taken for a structure that holds itself many times.
MOST_NAMES = 1_000_000
# Leaves of dictionary keys that may be hashed: a tuple of a tuple of … holds 2^k in k operations.
_MOST_HASHED = 10_000_000
_HASHABLE = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ", "FROZENSET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
# Names that the restricted unpickler of torch knows, and refuses itself where it does not.
_OF_TORCH = ("torch.", "collections.OrderedDict", "collections.Counter", "_codecs.encode",
             "builtins.set", "builtins.bytearray", "builtins.complex")  # fmt: skip


class PickleScan:
    """What a pickle would import and hash, found by following its opcodes without running them.

    It does to a stack what the pickle would do to its own, with numbers and texts in place of
    objects: an object is its number of leaves, since tuples and what is made of them have those
    of their parts, and its text, if it is one. None is a mark.

    Args:
        stream: a file of ``torch.save``, new or old, or a bare pickle, at its start.

    Attributes:
        globals: dotted names in order of appearance.
        protocol: of the pickle.
        complete: false where the stream broke off.
        hashed: number of leaves in its keys.
        packing: "zip", "legacy" (``torch.save``'s old format, whose content is the fourth pickle
            in the file), or "bare" for a pickle that torch did not save.

    Raises:
        CheckpointError: a zip file without one pickle in it, or with one that does not fit in
            memory.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.protocol = self.hashed = self._operations = 0
        self._names: dict[str, None] = {}
        self._first_number: int | None = None
        is_zip = stream.read(2) == b"PK"
        stream.seek(0)
        self.complete = self._follow(_pickle_in(stream) if is_zip else stream)
        legacy = self._first_number == LEGACY_MAGIC
        for _ in range(3 if legacy else 0):  # magic number, version, system, content
            self.complete = self.complete and self._follow(stream)
        self.packing = "zip" if is_zip else "legacy" if legacy else "bare"
        self.globals = tuple(self._names)

    def _follow(self, stream: IO[bytes]) -> bool:
        """Follow one pickle, after which ``stream`` is left; whether it is whole."""
        self._stack: list[tuple[int, str] | None] = []
        self._memo: dict[int, tuple[int, str]] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._do(opcode, argument)
        except Exception:  # pickletools raises ValueError and others on a broken stream
            return False
        return True

    def _do(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        self._operations += 1
        name = opcode.name
        if name in _PUTS:
            place = len(self._memo) if name == "MEMOIZE" else int(argument)
            self._memo[place] = self._stack[-1] or (1, "")
            return
        taken = self._take(opcode.stack_before)
        leaves = sum(count for count, _ in taken)
        if name == "PROTO":
            self.protocol = int(argument)
        elif name in ("GLOBAL", "INST"):
            self._name(*argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            self._name(*(text for _, text in taken))
        elif name in ("SETITEM", "SETITEMS"):
            self.hashed += sum(count for count, _ in taken[1::2])
        elif name in ("DICT", "ADDITEMS", "FROZENSET", "REDUCE"):
            self.hashed += leaves
        elif name in ("APPEND", "APPENDS", "LIST"):  # a set may be made of the list
            self.hashed += leaves - len(taken)
        elif name in ("LONG", "LONG1", "LONG4") and self._first_number is None:
            self._first_number = argument
        if name in _GETS:
            self._stack.append(self._memo[int(argument)])
        elif name == "MARK":
            self._stack.append(None)
        elif name in _HASHABLE:
            self._stack.append((min(1 + leaves, _MOST_HASHED + 1), ""))
            if leaves > self._operations + 1_000_000:  # parts that it has many times over
                self.hashed = _MOST_HASHED + 1
        elif name == "DUP":
            self._stack += taken * 2
        else:
            made = (1, argument if isinstance(argument, str) else "")
            self._stack += [made] * len(opcode.stack_after)

    def _take(self, before: list[pickletools.StackObject]) -> list[tuple[int, str]]:
        above: list[tuple[int, str]] = []
        below = len(before)
        if pickletools.markobject in before:
            while (top := self._stack.pop()) is not None:
                above.append(top)
            below = before.index(pickletools.markobject)
        kept = len(self._stack) - below
        taken = [item or (1, "") for item in self._stack[kept:]]
        del self._stack[kept:]
        return taken + above[::-1]

    def _name(self, module: str, name: str) -> None:
        module = "builtins" if module == "__builtin__" else module  # Python 2's name
        self._names[f"{module}.{name}"] = None


def _pickle_in(stream: IO[bytes]) -> IO[bytes]:
    with zipfile.ZipFile(stream) as archive:
        found = [e for e in archive.infolist() if e.filename.partition("/")[2] == "data.pkl"]
        if len(found) != 1:
            raise CheckpointError(f"it holds {len(found)} pickles where torch.save writes one")
        integrity.check_room(Path(found[0].filename), found[0].file_size, CheckpointError)
        return io.BytesIO(integrity.read_entry(archive, found[0]))


def load_safely(
    stream: IO[bytes],
    inert: Callable[[str], Any] = lambda name: None,
    plain: IO[bytes] | None = None,
) -> Any:
    """Open a pickled file without running anything that it carries.

    Args:
        stream: the file.
        inert: gives what stands for a further name, or None.
        plain: opened in place of ``stream``, with the same pickle.

    Raises:
        UntrustedCheckpointError: that is not possible; the message names what was found.
        CheckpointError: the file is damaged.
    """
    found = PickleScan(stream)
    if found.hashed > _MOST_HASHED:
        raise CheckpointError(
            "it is crafted: its keys are tuples of tuples with more than "
            f"{_MOST_HASHED:,} entries, which would take for ever to read"
        )
    made = {name: kind for name in found.globals if (kind := stand_in(name) or inert(name))}
    unknown = [n for n in found.globals if n not in made and not n.startswith(_OF_TORCH)]
    if not found.complete and not unknown:
        raise CheckpointError("it is damaged or incomplete; copy or download it again")
    if found.packing == "bare":
        raise _refusal(found, unknown, "is a pickle, but not one written by torch.save")
    source = plain or stream
    source.seek(0)
    names: list[Any] = [(kind, name) for name, kind in made.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(names):
            warnings.simplefilter("ignore")
            content = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        said = str(error).split("\n\n")[0].rpartition("WeightsUnpickler error:")[2]
        named = re.search(r"GLOBAL (\S+)", said)
        what = f"cannot be opened safely: {_one_line(said)}"
        if found.protocol > 2 and "Unsupported operand" in str(error):
            what = (
                f"is pickled with protocol {found.protocol}, which cannot be opened without "
                "running what it may carry"
            )
        raise _refusal(found, unknown or ([named[1]] if named else []), what) from error
    except PlainDataError as error:
        what = f"holds {error}, which could run code when it is used"
        raise _refusal(found, unknown, what) from error
    if found.packing == "legacy" and source.read(1):
        raise CheckpointError("it is damaged: it continues after its last number")
    return content


def _one_line(text: str, limit: int = 200) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def _refusal(scan: PickleScan, unknown: list[str], what: str) -> UntrustedCheckpointError:
    """Say what an untrusted pickle holds, if it is known, and which way out is safe."""
    shown = ", ".join(unknown[:4]) + (f" and {len(unknown) - 4} more" if len(unknown) > 4 else "")
    way = "save model.state_dict() alone with torch.save, and its default protocol"
    supply = ""
    if unknown and any(name.startswith("torch.nn.modules.") for name in scan.globals):
        kind = unknown[0].rpartition(".")[2]
        what = f"holds {shown} (a whole pickled module), which runs code when it is opened"
        way = "save model.state_dict() and give `model=file.py:factory`"
        supply = f" (and `model=file.py:{kind}` to supply its class)"
    elif unknown:
        what = f"holds {shown}, which is not plain data and runs code when it is opened"
    return UntrustedCheckpointError(
        f"it {what}. Safe: {way}. If you trust the file: `trust=True`{supply}"
    )


def load_trusted(
    stream: IO[bytes],
    find: Callable[[str, str], Any] = lambda module, name: None,
    origin: str = "",
) -> Any:
    """Open a pickled checkpoint as code, on the user's word.

    Args:
        stream: the file.
        find: gives the class of a module and a name, before it is imported; None where it has
            none. What cannot be imported is looked for as a class of ``__main__``.
        origin: what messages call the place where ``find`` looks.

    Raises:
        ArchitectureError: a class is missing.
        CheckpointError: it cannot be unpickled.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            try:
                return find(module, name) or super().find_class(module, name)
            except (ImportError, AttributeError) as error:
                if (found := find("__main__", name)) is not None:
                    return found
                where = f"{origin} has no '{name}'" if origin else "no class was given"
                raise ArchitectureError(
                    f"it holds {module}.{name}, whose code is not in the file, and {where}; "
                    f"supply it with `model=file.py:{name.split('.')[0]}`"
                ) from error

    opener: Any = types.ModuleType("hessscope_trusted_pickle")
    opener.Unpickler, opener.UnpicklingError = Unpickler, pickle.UnpicklingError
    opener.load = lambda stream, **options: Unpickler(stream, **options).load()
    bare = PickleScan(stream).packing == "bare"
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if bare:
                return Unpickler(stream).load()
            return torch.load(stream, map_location="cpu", weights_only=False, pickle_module=opener)
    except ArchitectureError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"it cannot be unpickled ({type(error).__name__}: {_one_line(str(error))})"
        ) from error
