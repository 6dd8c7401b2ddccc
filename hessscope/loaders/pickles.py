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
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import torch
from torch._utils import IMPORT_MAPPING, NAME_MAPPING

from hessscope.errors import ArchitectureError, CheckpointError, UntrustedCheckpointError
from hessscope.loaders.plain_types import PlainDataError, stand_in

#: First object of a file written by ``torch.save`` before its zip format (torch 1.6).
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class PickleScan:
    """What a pickle would import, found by reading its opcodes without running them.

    ``globals`` are dotted names in order of appearance, ``protocol`` the pickle protocol,
    ``complete`` is false where the stream broke off, ``legacy`` is true for ``torch.save``'s old
    format, whose content is the fourth pickle in the file.
    """

    globals: tuple[str, ...]
    protocol: int
    complete: bool
    legacy: bool = False

    @property
    def holds_module(self) -> bool:
        """Whether the names are those of a whole pickled ``torch.nn.Module``."""
        return any(name.startswith("torch.nn.modules.") for name in self.globals)


def scan_zip(path: Path) -> PickleScan:
    """Scan ``data.pkl`` of a file in ``torch.save``'s zip format."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.rsplit("/", 1)[-1] == "data.pkl")
        with archive.open(name) as stream:
            return scan_stream(io.BytesIO(stream.read()))


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
    return PickleScan(names, scans[-1].protocol, complete, legacy=True)


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
    try:
        for opcode, argument, _ in pickletools.genops(stream):
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
                return PickleScan(tuple(names), protocol, complete=True)
            else:
                recent.append(argument)
            del recent[:-4]
    except Exception:  # pickletools raises ValueError and others on a broken stream
        return PickleScan(tuple(names), protocol, complete=False)
    return PickleScan(tuple(names), protocol, complete=False)


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


def load_safely(path: Path, scan: PickleScan, *, zipped: bool, map_location: Any = "cpu") -> object:
    """Open a pickled checkpoint without running anything that it carries.

    ``map_location`` is torch's: a function there is called with each storage, in their order.
    Raises :class:`UntrustedCheckpointError` where that is not possible, naming what was found,
    and :class:`CheckpointError` where the file is damaged.
    """
    unknown = unknown_globals(scan)
    if unknown:
        raise UntrustedCheckpointError(refusal(path, scan, unknown))
    if not zipped and not scan.legacy:
        raise CheckpointError(
            f"{path} is a pickle, but not one written by torch.save; load it where it was made "
            "and save it again with torch.save(model.state_dict(), ...)"
        )
    extra = [(made, name) for name in scan.globals if (made := stand_in(name)) is not None]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(extra):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=map_location, weights_only=True)
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
