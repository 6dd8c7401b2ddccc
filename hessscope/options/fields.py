"""Options as fields of frozen dataclasses: each has its help, metavar, panel and check once.

The command line, the Python functions, records and savepoints all derive from these fields. Nothing
here imports torch, so that ``hessscope --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from hessscope.errors import OptionError, UnknownNameError
from hessscope.progress import Note, Progress, ignore, silent
from hessscope.registry import Registry

NETWORK, DATA, LOSS, MATRIX = "Network", "Data", "Loss", "Matrix"
COMPUTING, OUTPUT = "Computing", "Output"

P = ParamSpec("P")
R = TypeVar("R")
O = TypeVar("O", bound="Options")  # noqa: E741
Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name, type and default.

    Attributes:
        help: shown by ``--help`` and by ``help()``.
        metavar: what stands for its value; None for a switch.
        panel: heading under which ``--help`` lists it; None for what only Python takes.
        read: turns what was given, text or object, into the value; raises ``ValueError`` with what
            to give instead.
        flags: of the command line; default ``--name`` with dashes.
        argument: it has a place on the command line, and no flag.
        many: it may be given several times.
        decides: the result depends on it, so that work done with another value is not resumed.
    """

    help: str
    metavar: str | None = None
    panel: str | None = COMPUTING
    read: Read | None = None
    flags: tuple[str, ...] = ()
    argument: bool = False
    many: bool = False
    decides: bool = True


def option(
    default: Any,
    help: str,
    metavar: str | None = None,
    panel: str | None = COMPUTING,
    read: Read | None = None,
    **rest: Any,
) -> Any:
    """Define an option: a dataclass field with its ``Option``; ``rest`` are further fields of it.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Sampling(Options):
        ...     steps: int = option(100, "Number of steps.", "N", read=whole(1))
        >>> Sampling(steps=0)
        Traceback (most recent call last):
            ...
        hessscope.errors.OptionError: `steps=0`: give a whole number of at least 1
    """
    made = Option(help, metavar, panel, read, **rest)
    return field(default=default, metadata={"option": made}, repr=panel is not None)


def under(panel: str, **always: Any) -> Callable[..., Any]:
    """``option`` for options under one heading, with what else they have in common."""

    def define(
        default: Any, help: str, metavar: str | None = None, read: Read | None = None, **rest: Any
    ) -> Any:
        return option(default, help, metavar, panel, read, **{**always, **rest})

    return define


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of the options of every command: fields are read and checked when they are made.

    Raises:
        OptionError: with the field, its value, and what to give instead.
    """

    progress: Progress = option(
        silent, "Called with each stage of the work: (stage, done, total).", None, None,
        decides=False,
    )  # fmt: skip
    on_note: Note = option(
        ignore, "Called with each note, as text; print will do.", None, None, decides=False
    )

    def __post_init__(self) -> None:
        for name, how in self.described().items():
            value = getattr(self, name)
            if value is None or how.read is None:
                continue
            try:
                object.__setattr__(self, name, how.read(value))
            except OptionError:
                raise
            except (ValueError, TypeError) as error:
                raise OptionError(f"`{name}={value}`: {error}") from error

    @classmethod
    @functools.cache
    def described(cls) -> Mapping[str, Option]:
        """The options by their names, in order."""
        return {f.name: f.metadata["option"] for f in dataclasses.fields(cls) if f.metadata}

    @classmethod
    def of(cls: type[O], *values: Any, **named: Any) -> O:
        """Make them, with a message that suggests the nearest name for one that is not known."""
        known = cls.described()
        for name in named:
            if name not in known:
                raise UnknownNameError("option", name, known)
        return cls(*values, **named)

    @classmethod
    def part_of(cls: type[O], options: Options, **changes: Any) -> O:
        """Those fields that both kinds of options have."""
        own = options.described()
        shared = {name: getattr(options, name) for name in cls.described() if name in own}
        return cls(**{**shared, **changes})

    def stored(self) -> dict[str, Any]:
        """Options that differ from their defaults, as records keep them."""
        defaults = {f.name: plain(f.default) for f in dataclasses.fields(self)}
        values = {name: plain(getattr(self, name)) for name in self.described()}
        return {
            name: value
            for name, value in values.items()
            if self.described()[name].panel is not None and value != defaults[name]
        }

    def job_key(self, *content: object) -> str:
        """SHA-256 of all that decides the result: of these options, and of ``content``.

        Args:
            content: digests of the files and data that the options name.
        """
        own = {n: plain(getattr(self, n)) for n, how in self.described().items() if how.decides}
        text = repr((type(self).__name__, own, content))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def takes(options: Callable[P, O], **renamed: str) -> Callable[[Callable[[O], R]], Callable[P, R]]:
    """Turn a function of an options object into one of its fields, with their signature.

    Args:
        options: the dataclass.
        **renamed: fields that the function calls otherwise.

    Example:
        >>> @takes(Options)
        ... def stages(options: Options) -> str:
        ...     "Show the callback."
        ...     return options.progress.__name__
        >>> stages()
        'silent'
    """
    assert isinstance(options, type)
    assert issubclass(options, Options)
    kind: Any = options

    def decorate(function: Callable[[O], R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*values: P.args, **named: P.kwargs) -> R:
            for name, shown in renamed.items():
                if shown in named:
                    named[name] = named.pop(shown)
            return function(kind.of(*values, **named))

        own = inspect.signature(kind)
        own = own.replace(
            parameters=[p.replace(name=renamed.get(n, n)) for n, p in own.parameters.items()]
        )
        returned = inspect.signature(function).return_annotation
        call.__signature__ = own.replace(return_annotation=returned)  # type: ignore[attr-defined]
        del call.__wrapped__
        last = sorted(kind.described().items(), key=lambda item: item[1].panel is None)
        lines = [f"    {renamed.get(name, name)}: {how.help}" for name, how in last]
        parts = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
        arguments = "\n".join(("Args:", *lines))
        call.__doc__ = "\n\n".join(filter(None, (parts[0], arguments, parts[2])))
        return call

    return decorate


def plain(value: Any) -> Any:
    """A value as JSON, HDF5 and keys take it: objects by their name or by their own fields."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return repr(value)
    return str(getattr(value, "__qualname__", f"{type(value).__name__} in memory"))


def whole(least: int = 0) -> Read:
    """Read a whole number from ``least`` on, below 2⁶³."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not least <= (number := int(value)) < 2**63:
            raise ValueError(_wanted)
        if number != value and not isinstance(value, str):
            raise ValueError(_wanted)
        return number

    _wanted = f"give a whole number of at least {least}"
    return _saying(_wanted, read)


def number(least: float = 0.0, *, above: bool = False) -> Read:
    """Read a finite number from ``least`` on, or above it."""
    wanted = f"give a number {'above' if above else 'of at least'} {least:g}"

    def read(value: Any) -> float:
        found = float(value)
        if not (least < found if above else least <= found) or not found < math.inf:
            raise ValueError(wanted)
        return found

    return _saying(wanted, read)


def numbers(value: Any) -> tuple[float, ...]:
    """Read numbers from a text with commas between them, or from a sequence."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(map(math.isfinite, found)):
        raise ValueError("give numbers such as 1,0.1,0.01")
    return found


def nonnegative(value: Any) -> tuple[float, ...]:
    """Read numbers of at least 0."""
    found = numbers(value)
    if min(found) < 0:
        raise ValueError("give numbers of at least 0, such as 1,0.1,0")
    return found


def texts(value: Any) -> tuple[str, ...]:
    """Read one text or several."""
    return (value,) if isinstance(value, str) else tuple(value)


def paths(value: Any) -> tuple[Any, ...]:
    """Read one path or several; models in memory stay as they are."""
    one = isinstance(value, (str, os.PathLike)) or hasattr(value, "state_dict")
    several = (value,) if one else value
    return tuple(p if hasattr(p, "state_dict") else Path(p) for p in several)


def one_of(names: Iterable[str] | Registry, kind: str = "name") -> Read:
    """Read a name among those known, with dashes or underscores; pass objects through."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if isinstance(names, Registry):
            return names.name_of(value)
        name = value.replace("-", "_")
        if name not in names:
            raise UnknownNameError(kind, value, names)
        return name

    return read


def memory(value: Any) -> int:
    """Read bytes from a number, or from a text such as ``4GB``, ``800MiB`` or ``2e9``."""
    match = re.fullmatch(r"\s*([\d.]+(?:e\+?\d+)?)\s*([kmgt]?)(i?)b?\s*", str(value).lower())
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:  # 1.2.3
        amount = 0.0
    base = 1024 if match and match[3] else 1000
    found = amount * base ** " kmgt".index(match[2] or " ") if match else 0.0
    if not 1 <= found < 2**63:
        raise ValueError("give an amount of memory such as 4GB, 800MB or 2e9")
    return int(found)


def _saying(wanted: str, read: Read) -> Read:
    """The reader, with its own words also where Python refuses the value."""

    def said(value: Any) -> Any:
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(wanted) from None

    return said
