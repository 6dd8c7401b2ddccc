"""Optional packages, imported where they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from hessscope.errors import HessscopeError, OptionError


def extra(package: str, group: str, what: str, failure: type[HessscopeError] = OptionError) -> Any:
    """Import a package that ``pip install 'hessscope[GROUP]'`` brings.

    Args:
        package: its name.
        group: the optional dependencies of hessscope that have it.
        what: needs it, as the message begins.
        failure: kind of the error.

    Raises:
        HessscopeError: of the kind ``failure``: it is not installed, or cannot be imported here.

    Example:
        >>> extra("no_such_package", "hf", "this file")
        Traceback (most recent call last):
            ...
        hessscope.errors.OptionError: this file needs the package no_such_package, which is not \
installed: pip install 'hessscope[hf]'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        lacking = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "is not installed" if lacking else f"cannot be imported ({error})"
        raise failure(
            f"{what} needs the package {package}, which {reason}: pip install 'hessscope[{group}]'"
        ) from error
