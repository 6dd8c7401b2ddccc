"""Opening pickled checkpoints: safely by default, as code only on the user's word.

The safe way is ``torch.load(weights_only=True)`` with the inert stand-ins of ``plain_types``;
nothing that the file names is imported or called. The trusted way is an ordinary unpickler that
can take classes from a module file that the user gives, under the name that they were pickled
by, so that ``__main__`` is never touched.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import types
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch
from torch._utils import IMPORT_MAPPING, NAME_MAPPING

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


@dataclass(frozen=True)
class PickleScan:
    """What a pickle would import, found by reading its opcodes without running them.

    ``globals`` are dotted names in order of appearance, ``protocol`` the pickle protocol,
    ``complete`` is false where the stream broke off, ``hashed`` the number of leaves in its keys,
    ``legacy`` is true for ``torch.save``'s old format, whose content is the fourth pickle in the
    file.
    """

    globals: tuple[str, ...]
    protocol: int
    complete: bool
    hashed: int = 0
    legacy: bool = False

    @property
    def holds_module(self) -> bool:
        """Whether the names are those of a whole pickled ``torch.nn.Module``."""
        return any(name.startswith("torch.nn.modules.") for name in self.globals)


def scan_zip(path: Path | IO[bytes]) -> PickleScan:
    """Scan ``data.pkl`` of a file in ``torch.save``'s zip format."""
    return scan_stream(io.BytesIO(pickle_in(path)))


def pickle_in(path: Path | IO[bytes]) -> bytes:
    """The content of ``data.pkl`` in a file of ``torch.save``'s zip format.

    Raises:
        CheckpointError: it is not there, or does not fit in memory.
    """
    with zipfile.ZipFile(path) as archive:
        found = [e for e in archive.infolist() if e.filename.partition("/")[2] == "data.pkl"]
        if len(found) != 1:
            raise CheckpointError(f"it holds {len(found)} pickles where torch.save writes one")
        integrity.check_room(Path(found[0].filename), found[0].file_size, CheckpointError)
        return integrity.read_entry(archive, found[0])


def scan_pickle(path: Path) -> PickleScan:
    """Scan a bare pickle; of ``torch.save``'s old format the pickle that holds the content."""
    with path.open("rb") as stream:
        first = _first_number(stream)
        stream.seek(0)
        if first != LEGACY_MAGIC:
            return scan_stream(stream)
        scans = [scan_stream(stream) for _ in range(4)]  # magic number, version, system, content
    names = tuple(dict.fromkeys(name for scan in scans for name in scan.globals))
    complete = all(scan.complete for scan in scans)
    hashed = sum(scan.hashed for scan in scans)
    return PickleScan(names, scans[-1].protocol, complete, hashed, legacy=True)


def _first_number(stream: IO[bytes]) -> int | None:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("LONG1", "LONG4", "LONG"):
                return int(argument or 0)
            if opcode.name not in ("PROTO", "FRAME"):
                return None
    except Exception:
        return None
    return None


def scan_stream(stream: IO[bytes]) -> PickleScan:
    """Scan one pickle from ``stream``, which is left after it."""
    names: dict[str, None] = {}
    protocol = 0
    memo: dict[int, object] = {}
    recent: list[object] = [None, None]
    keys = _Keys()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            keys.follow(opcode, argument)
            if opcode.name == "PROTO":
                protocol = int(argument or 0)
            elif opcode.name in ("GLOBAL", "INST"):
                names[_renamed(*str(argument).split(" ", 1))] = None
            elif opcode.name == "STACK_GLOBAL":
                names[_renamed(str(recent[-2]), str(recent[-1]))] = None
            elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[int(argument or 0)] = recent[-1]
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = recent[-1]
            elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
                recent.append(memo.get(int(argument or 0)))
            elif opcode.name == "STOP":
                return PickleScan(tuple(names), protocol, complete=True, hashed=keys.hashed)
            else:
                recent.append(argument)
            del recent[:-4]
    except Exception:  # pickletools raises ValueError and others on a broken stream
        return PickleScan(tuple(names), protocol, complete=False)
    return PickleScan(tuple(names), protocol, complete=False)


class _Keys:
    """Follows the stack of a pickle to count the leaves that its dictionaries and sets may hash.

    An object is its number of leaves: tuples and what is made of them have those of their parts.
    """

    def __init__(self) -> None:
        self.stack: list[int | None] = []  # None is a mark
        self.places: dict[int, int] = {}
        self.hashed = 0
        self.operations = 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Do to the stack what the operation would do."""
        self.operations += 1
        name, before, after = opcode.name, opcode.stack_before, opcode.stack_after
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self.places) if name == "MEMOIZE" else int(str(argument))
            self.places[place] = self.stack[-1] or 1
            return
        taken: list[int] = []
        below = len(before)
        if pickletools.markobject in before:
            while (top := self.stack.pop()) is not None:
                taken.append(top)
            below = before.index(pickletools.markobject)
        taken = [leaves or 1 for leaves in self.stack[len(self.stack) - below :]] + taken[::-1]
        del self.stack[len(self.stack) - below :]
        if name in ("SETITEM", "SETITEMS"):
            self.hashed += sum(taken[1::2])
        elif name in ("DICT", "ADDITEMS", "FROZENSET", "REDUCE"):
            self.hashed += sum(taken)
        elif name in ("APPEND", "APPENDS", "LIST"):  # a set may be made of the list
            self.hashed += sum(taken) - len(taken)
        if name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.places[int(str(argument))])
        elif name == "MARK":
            self.stack.append(None)
        elif name in _HASHABLE:
            leaves = min(1 + sum(taken), _MOST_HASHED + 1)
            self.stack.append(leaves)
            if leaves > self.operations + 1_000_000:  # parts that it has many times over
                self.hashed = _MOST_HASHED + 1
        else:
            self.stack += [taken[0] if name == "DUP" else 1] * len(after)


def _renamed(module: str, name: str = "") -> str:
    # Python 2's names, as both pickle and torch translate them.
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[(module, name)]
    else:
        module = IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}"


def unknown_globals(scan: PickleScan) -> tuple[str, ...]:
    """Names in the pickle that neither torch nor hessscope knows to be harmless."""
    from torch._weights_only_unpickler import _get_allowed_globals, _get_user_allowed_globals

    allowed = {*_get_allowed_globals(), *_get_user_allowed_globals()}
    return tuple(n for n in scan.globals if n not in allowed and stand_in(n) is None)


def check_keys(path: Path, scan: PickleScan) -> None:
    """Refuse a pickle that takes for ever to open; raises ``CheckpointError``."""
    if scan.hashed > _MOST_HASHED:
        raise CheckpointError(
            f"{path} is crafted: its keys are tuples of tuples with more than "
            f"{_MOST_HASHED:,} entries, which would take for ever to read"
        )


def load_safely(
    path: Path,
    scan: PickleScan,
    *,
    zipped: bool,
    map_location: Any = "cpu",
    archive: IO[bytes] | None = None,
    inert: Mapping[str, Any] | None = None,
    mmap: bool = False,
) -> object:
    """Open a pickled checkpoint without running anything that it carries.

    ``map_location`` is torch's: a function there is called with each storage, in their order.
    ``archive`` is opened in place of the file, ``inert`` are further names and what stands for
    them; with ``mmap`` the numbers are left in the file. Raises
    :class:`UntrustedCheckpointError` where that is not possible, naming what was found, and
    :class:`CheckpointError` where the file is damaged.
    """
    inert = inert or {}
    check_keys(path, scan)
    unknown = tuple(name for name in unknown_globals(scan) if name not in inert)
    if unknown:
        raise UntrustedCheckpointError(refusal(path, scan, unknown))
    if not zipped and not scan.legacy:
        raise CheckpointError(
            f"{path} is a pickle, but not one written by torch.save; load it where it was made "
            "and save it again with torch.save(model.state_dict(), ...)"
        )
    extra: list[Any] = [(made, name) for name in scan.globals
                        if (made := inert.get(name) or stand_in(name)) is not None]  # fmt: skip
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(extra):
            warnings.simplefilter("ignore")
            return torch.load(
                archive or path, map_location=map_location, weights_only=True, mmap=mmap
            )
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n\n")[0]
        if "Unsupported operand" in str(error) and scan.protocol > 2:
            raise UntrustedCheckpointError(
                f"{path} is pickled with protocol {scan.protocol}, which cannot be opened without "
                "running what it may carry. Safe: save it again with torch.save(state_dict, ...) "
                "and its default protocol. If you trust the file: --trust (trust=True)"
            ) from error
        raise UntrustedCheckpointError(
            f"{path} cannot be opened safely: {_one_line(_innermost(reason))}. Safe: save "
            "model.state_dict() where the file was made. If you trust the file: --trust "
            "(trust=True)"
        ) from error
    except PlainDataError as error:
        raise UntrustedCheckpointError(
            f"{path} holds {error}, which could run code when it is used. Safe: save "
            "model.state_dict() alone where the file was made. If you trust the file: --trust"
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or incomplete ({type(error).__name__}: {_one_line(str(error))}); "
            "copy or download it again"
        ) from error


def tensors_of(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """Tensors in a part of an archive that ``torch.save`` wrote; raises as ``load_safely`` does."""
    scan = scan_zip(io.BytesIO(content))
    found = load_safely(path, scan, zipped=True, archive=io.BytesIO(content))
    if isinstance(found, torch.Tensor):
        return {"": found.detach()}
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds a pickled {type(found).__name__} for its weights")
    return {str(k): v.detach() for k, v in found.items() if isinstance(v, torch.Tensor)}


def _innermost(reason: str) -> str:
    marker = "WeightsUnpickler error:"
    return reason.rsplit(marker, 1)[-1].strip() if marker in reason else reason


def _one_line(text: str, limit: int = 200) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def refusal(path: Path, scan: PickleScan, unknown: tuple[str, ...]) -> str:
    """Say what an untrusted pickle holds and which way out is safe."""
    own = [n for n in unknown if not n.startswith(("torch.", "collections.", "numpy."))] or unknown
    shown = ", ".join(own[:4]) + (f" and {len(own) - 4} more" if len(own) > 4 else "")
    if scan.holds_module:
        kind = own[0].rsplit(".", 1)[-1]
        return (
            f"{path} holds {shown} (a whole pickled module), which runs code when it is opened. "
            "Safe: save model.state_dict() and give --model file.py:factory. If you trust the "
            f"file: --trust (and --model file.py:{kind} to supply its class)"
        )
    return (
        f"{path} holds {shown}, which is not plain data and runs code when it is opened. Safe: "
        "save model.state_dict() alone where the file was made. If you trust the file: --trust "
        "(trust=True)"
    )


@dataclass(frozen=True)
class ClassSupply:
    """Where a trusted pickle finds classes that cannot be imported by their pickled name.

    ``names`` is the namespace of the module (file) that the user gave, ``origin`` how it is
    called in messages, ``stem`` the file's name without ``.py``.
    """

    names: dict[str, Any]
    origin: str
    stem: str = ""

    def find(self, module: str, name: str) -> object | None:
        """Look ``name`` (dotted for nested classes) up; ``None`` where it is not there."""
        here = module == "__main__" or module.rsplit(".", 1)[-1] == self.stem
        if not here and _importable(module):
            return None
        found: Any = self.names.get(name.split(".")[0])
        for part in name.split(".")[1:]:
            found = getattr(found, part, None)
        return found


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def load_trusted(path: Path, supply: ClassSupply | None, *, plain: bool = False) -> object:
    """Open a pickled checkpoint as code, on the user's word.

    ``plain`` is for pickles that ``torch.save`` did not write. Raises
    :class:`ArchitectureError` where a class is missing, :class:`CheckpointError` otherwise.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = supply.find(module, name) if supply is not None else None
            if found is not None:
                return found
            try:
                return super().find_class(module, name)
            except (ImportError, AttributeError) as error:
                where = f"{supply.origin} has no '{name}'" if supply else "no class was given"
                raise ArchitectureError(
                    f"{path} holds {module}.{name}, whose code is not in the file, and {where}; "
                    f"supply it with --model file.py:{name.split('.')[0]}"
                ) from error

    opener = types.ModuleType("hessscope_trusted_pickle")
    opener.__dict__.update(
        Unpickler=Unpickler,
        load=lambda stream, **options: Unpickler(stream, **options).load(),
        UnpicklingError=pickle.UnpicklingError,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if plain:
                with path.open("rb") as stream:
                    return Unpickler(stream).load()
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=opener)
    except ArchitectureError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be unpickled ({type(error).__name__}: {_one_line(str(error))})"
        ) from error
