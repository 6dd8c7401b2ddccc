"""The library's texts in the words of the command line: fields become flags."""

from __future__ import annotations

import importlib
import pkgutil
import re

from hessscope import options
from hessscope.options.fields import Option, Options

# In texts of the library an option stands in backticks, with or without a value.
_FIELD = re.compile(r"`([a-z_0-9]+)(?:=([^`]*))?`")


def flag_of(name: str, how: Option) -> str:
    """The flag of a field, the first where it has several; the metavar of an argument."""
    if how.argument:
        return how.metavar or name
    return how.flags[0] if how.flags else f"--{name.replace('_', '-')}"


def in_flags(text: str) -> str:
    """Write the options in a text as the command line does.

    Example:
        >>> import hessscope.options.watch  # has a `loss` that no command line takes
        >>> in_flags("the right loss is `loss=next_token`")
        'the right loss is --loss next_token'
        >>> in_flags("give `target_width=0.1`, or `trust=True`")
        'give --target-width 0.1, or --trust'
    """
    for module in pkgutil.iter_modules(options.__path__, f"{options.__name__}."):
        importlib.import_module(module.name)
    known = {name: how for kind in _kinds(Options) for name, how in kind.described().items()}

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in known:
            return match[0]
        words = flag_of(name, known[name])
        return words if value in (None, "True") else f"{words} {value}"

    return _FIELD.sub(flag, text)


def _kinds(kind: type[Options]) -> list[type[Options]]:
    return [kind, *(below for direct in kind.__subclasses__() for below in _kinds(direct))]
