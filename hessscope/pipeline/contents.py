"""What stands behind the names of data, network and loss: files and code, by their content."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hessscope.loaders import StoredSetting
from hessscope.loaders.checkpoints.settings import names_code
from hessscope.loaders.user_code import importable_from
from hessscope.records import file_sha256


def digest_of(named: Any, digest: Callable[[Path], str] = file_sha256) -> str | None:
    """SHA-256 of the file that is meant, or of an object's source code; None where there is none.

    A change in what that code imports or reads is not seen.

    Args:
        named: a path, ``file.py:name``, ``package.module:name``, or a function, class or object.
        digest: of a file.
    """
    if named is None:
        return None
    if isinstance(named, (str, Path)):
        file = _file_behind(named)
        return None if file is None else digest(file)
    try:
        code = inspect.getsource(named if hasattr(named, "__qualname__") else type(named))
    except (OSError, TypeError):  # built in, or typed where nothing is kept
        return None
    return hashlib.sha256(code.encode()).hexdigest()


def code_of(
    stored: StoredSetting | None,
    model: Any,
    loss: Any,
    digest: Callable[[Path], str] = file_sha256,
) -> dict[str, str]:
    """SHA-256 of the code of network and loss, as records have them; no entry where none is named.

    Args:
        stored: what the checkpoint states; it may name the code of its network itself.
        model: as in ``Problem``.
        loss: as in ``Problem``.
        digest: of a file.
    """
    if model is None and stored is not None:
        model = stored.architecture
    found = {"model_code_sha256": model, "loss_code_sha256": loss}
    digests = {
        key: digest_of(named, digest)
        for key, named in found.items()
        if not isinstance(named, str) or names_code(named)
    }
    return {key: value for key, value in digests.items() if value is not None}


def _file_behind(named: str | Path) -> Path | None:
    path = Path(named).expanduser()
    if path.is_file():
        return path
    if not names_code(named):
        return None
    source = str(named).rpartition(":")[0]
    if source.endswith(".py"):
        path = Path(source).expanduser()
    else:
        # Nothing is imported here, not even a package that the module is in.
        package, *inner = source.split(".")
        try:
            with importable_from(str(named)):
                found = importlib.util.find_spec(package)
        except (ImportError, ValueError, AttributeError):
            return None
        if found is None or not inner:
            path = Path((found and found.origin) or "")
        else:
            folders = [Path(p, *inner) for p in found.submodule_search_locations or ()]
            files = [f for p in folders for f in (p / "__init__.py", p.with_suffix(".py"))]
            path = next((file for file in files if file.is_file()), Path())
    return path if path.is_file() else None
