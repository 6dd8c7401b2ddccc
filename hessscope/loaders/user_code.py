"""Code of users, by ``file.py:name`` and ``package.module:name``: import, calls, digests."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from hessscope.errors import HessscopeError, OptionError, UnknownNameError
from hessscope.records import file_sha256

_PERCEPTRON = re.compile(r"mlp:\d+(-\d+)+(:\w+)?")


def names_code(spec: object) -> bool:
    """Whether a specification names code to be run: ``file.py:function``, ``package:name``.

    All that has a colon does, but for a network in full (``mlp:784-25-10:relu``), of which no
    part can be the name of a file.
    """
    return isinstance(spec, str) and ":" in spec and not _PERCEPTRON.fullmatch(spec)


def names_object(spec: str) -> bool:
    """Whether a text can be ``file.py:name`` or ``package.module:name``, and is no ``C:\\path``."""
    return re.fullmatch(r"(.+\.py|[^\W\d]\w+(\.\w+)*):[^\W\d]\w*(\.\w+)*", spec) is not None


def spelled_out(spec: object) -> str | None:
    """A name, path or ``file.py:function`` so that it holds in any folder; None for objects."""
    if not isinstance(spec, (str, Path)):
        return None
    source, colon, name = str(spec).rpartition(":")
    if source.endswith(".py"):
        return f"{Path(source).expanduser().resolve()}{colon}{name}"
    path = Path(spec).expanduser()
    return str(path.resolve()) if path.suffix and path.is_file() else str(spec)


def load_object(spec: str, what: str, failure: type[HessscopeError] = OptionError) -> object:
    """Import the object that ``spec`` names; messages call it ``what`` ("data", "model").

    ``spec`` is ``file.py:name`` (a path, relative to the current folder) or
    ``package.module:name``; ``name`` may have dots (``Namespace.factory``). **This runs the
    code of that file**, so call it only with what the user typed. A file is executed at each
    call, under a module name of its own, so that it shadows no installed package.

    Raises:
        OptionError: the spec cannot be parsed, or the file or module is not there.
        HessscopeError: of the kind ``failure``: its code raised; the message names file, line and
            exception.
        UnknownNameError: the module has no such name (with a suggestion).
        HessscopeError: raised by the user's code itself; passed on as it is.
    """
    source, name = _split(spec, what)
    path = _file_of(source)
    if path is not None and not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise OptionError(f"{what} '{spec}': {source} {problem} (looked in {Path.cwd()}).")
    with importable_from(spec):
        try:
            module = importlib.import_module(source) if path is None else _executed(path)
        except HessscopeError:
            raise
        except (Exception, SystemExit) as error:
            missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else "?"
            if path is None and f"{source}.".startswith(f"{missing}."):
                is_file = Path(f"{source}.py").is_file()
                hint = f" Is the file meant? Write {source}.py:…" if is_file else ""
                raise OptionError(
                    f"{what} '{spec}': no module named '{missing}' is installed or in "
                    f"{Path.cwd()}.{hint}"
                ) from None
            raise failure(f"{what} '{spec}' cannot be loaded: {_where(error, path)}") from error
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UnknownNameError(
                f"{what} in {source}:", name, _public_names(found, module, near=part)
            ) from None
    return found


def call_object(
    factory: Callable[..., Any], spec: str, what: str, failure: type[HessscopeError]
) -> Any:
    """Call what ``load_object(spec, what)`` gave; what it raises becomes a ``failure``.

    Of an object in memory ``spec`` is its name. The file's folder is importable meanwhile, since
    factories often import inside.
    """
    source, _, name = spec.rpartition(":")
    with importable_from(spec):
        try:
            return factory()
        except HessscopeError:
            raise
        except (Exception, SystemExit) as error:
            where = _where(error, _file_of(source))
            raise failure(f"{what} '{spec}': {name}() failed: {where}") from error


@contextmanager
def importable_from(spec: str) -> Iterator[None]:
    """Put the folder of ``file.py:name`` (for a module: the current one) first on ``sys.path``.

    Modules that were imported from the folder are forgotten afterwards: two files in two folders
    may each have a ``blocks.py`` beside them.
    """
    file = _file_of(spec.rpartition(":")[0] or spec)
    folder = Path.cwd() if file is None else file.parent
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in () if file is None else set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin is not None and Path(origin).parent == folder:
                del sys.modules[name]


def _split(spec: str, what: str) -> tuple[str, str]:
    # From the right: a Windows path has a colon of its own.
    source, colon, name = spec.rpartition(":")
    parts_are_names = all(part.isidentifier() for part in name.split("."))
    if not colon or not source or not parts_are_names:
        raise OptionError(
            f"{what} '{spec}' names no object: write file.py:name or package.module:name "
            "(for instance models.py:make_model)."
        )
    return source, name


def _file_of(source: str) -> Path | None:
    return Path(source).expanduser().resolve() if source.endswith(".py") else None


def _executed(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"_hessscope_user_{digest}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered before and after: dataclasses and pickle look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _where(error: BaseException, path: Path | None) -> str:
    """File, line and text of an exception, in one line; the innermost line in the user's file."""
    text = " ".join(str(error).split())
    message = type(error).__name__ + (f": {text}" if text else "")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and frame.filename == str(path)]
    outside = [frame for frame in frames if frame.filename != __file__]
    for frame in (own or outside)[-1:]:
        return f"{frame.filename}, line {frame.lineno}: {message}"
    return message


def _public_names(found: object, module: ModuleType, near: str) -> list[str]:
    """What the user may have meant: in a file, names defined there, not those it imported."""
    package = hasattr(module, "__path__")  # a package exists to hand on what others define
    names = [
        name
        for name, value in getattr(found, "__dict__", {}).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
        if package or getattr(value, "__module__", module.__name__) == module.__name__
    ]
    # A package has hundreds of names; the nearest ones tell more than a screenful.
    return names if len(names) <= 12 else difflib.get_close_matches(near, names, 12, 0.0)


def digest_of(named: Any, digest: Callable[[Path], str] = file_sha256) -> str | None:
    """SHA-256 of the file that is meant, or of an object's source code; None where there is none.

    Nothing is imported, and a change in what the code imports or reads is not seen.

    Args:
        named: a path, ``file.py:name``, ``package.module:name``, or a function, class or object.
        digest: of a file.
    """
    if isinstance(named, (str, Path)):
        file = _file_behind(named)
        return digest(file) if file is not None and file.is_file() else None
    try:
        code = inspect.getsource(named if hasattr(named, "__qualname__") else type(named))
    except (OSError, TypeError):  # None, built in, or typed where nothing is kept
        return None
    return hashlib.sha256(code.encode()).hexdigest()


def _file_behind(named: str | Path) -> Path | None:
    path = Path(named).expanduser()
    if path.is_file() or not names_code(named):
        return path
    source = str(named).rpartition(":")[0]
    if source.endswith(".py"):
        return _file_of(source)
    folders: Sequence[str] | None = None
    origin = None
    with importable_from(str(named)):
        for depth, _ in enumerate(parts := source.split("."), 1):
            found = PathFinder.find_spec(".".join(parts[:depth]), folders)
            if found is None:
                return None
            origin, folders = found.origin, found.submodule_search_locations or ()
    return None if origin is None else Path(origin)
