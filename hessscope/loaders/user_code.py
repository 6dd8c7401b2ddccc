"""Python objects that a user names: ``file.py:name`` and ``package.module:name``."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hessscope.errors import HessscopeError, OptionError, UnknownNameError


def load_object(spec: str, what: str) -> object:
    """Import the object that ``spec`` names; ``what`` says what it is for ("data", "model").

    ``spec`` is ``file.py:name`` (a path, relative to the current folder) or
    ``package.module:name``; ``name`` may have dots (``Namespace.factory``). **This runs the
    code of that file**, so call it only with what the user typed. A file is executed at each
    call, under a module name of its own, so that it shadows no installed package.

    Raises:
        OptionError: the spec cannot be parsed, the file or module is not there, or its code
            raised (the message names file, line and exception).
        UnknownNameError: the module has no such name (with a suggestion).
        HessscopeError: raised by the user's code itself; passed on as it is.
    """
    source, name = _split(spec, what)
    with importable_from(spec):
        if source.endswith(".py"):
            module = _execute_file(Path(source).expanduser(), spec, what)
        else:
            module = _import_module(source, spec, what)
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

    The file's folder is importable meanwhile, since factories often import inside.
    """
    source, name = _split(spec, what)
    path = Path(source).expanduser().resolve() if source.endswith(".py") else None
    with importable_from(spec):
        try:
            return factory()
        except HessscopeError:
            raise
        except (Exception, SystemExit) as error:
            raise failure(f"{what} '{spec}': {name}() failed: {_where(error, path)}") from error


@contextmanager
def importable_from(spec: str) -> Iterator[None]:
    """Put the folder of ``file.py:name`` (for a module: the current one) first on ``sys.path``.

    Modules that were imported from the folder are forgotten afterwards: two files in two folders
    may each have a ``blocks.py`` beside them.
    """
    source = spec.rpartition(":")[0] or spec
    folder = Path(source).expanduser().resolve().parent if source.endswith(".py") else Path.cwd()
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        if source.endswith(".py"):
            for name in set(sys.modules) - before:
                file = getattr(sys.modules[name], "__file__", None)
                if file is not None and Path(file).parent == folder:
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


def _execute_file(path: Path, spec: str, what: str) -> ModuleType:
    if not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise OptionError(f"{what} '{spec}': {path} {problem} (looked in {Path.cwd()}).")
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    module_name = f"_hessscope_user_{digest}_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise OptionError(f"{what} '{spec}': {path} cannot be imported as Python.")
    module = importlib.util.module_from_spec(module_spec)
    # Registered before and after: dataclasses and pickle look their module up by name.
    sys.modules[module_name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(module_name, None)
        if isinstance(error, HessscopeError) or not isinstance(error, (Exception, SystemExit)):
            raise
        raise OptionError(f"{what} '{spec}' cannot be loaded: {_where(error, path)}") from error
    return module


def _import_module(name: str, spec: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except HessscopeError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            hint = f" Is the file meant? Write {name}.py:…" if Path(f"{name}.py").is_file() else ""
            raise OptionError(
                f"{what} '{spec}': no module named '{missing}' is installed or in {Path.cwd()}."
                + hint
            ) from None
        raise OptionError(f"{what} '{spec}' cannot be loaded: {_where(error, None)}") from error
    except (Exception, SystemExit) as error:
        raise OptionError(f"{what} '{spec}' cannot be loaded: {_where(error, None)}") from error


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
    names = []
    for name, value in vars(found).items() if hasattr(found, "__dict__") else ():
        own = package or getattr(value, "__module__", module.__name__) == module.__name__
        if not name.startswith("_") and own and not isinstance(value, ModuleType):
            names.append(name)
    # A package has hundreds of names; the nearest ones say more than a screenful.
    if len(names) > 12:
        names = difflib.get_close_matches(near, names, n=12, cutoff=0.0)
    return names
