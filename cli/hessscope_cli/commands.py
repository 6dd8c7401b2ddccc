"""Commands of Typer made from the library's options, and the path that each of them takes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import RenderableType

from hessscope.options.fields import OUTPUT, Option, Options, option
from hessscope_cli import terminal
from hessscope_cli.exit_codes import INTERRUPTED
from hessscope_cli.wording import flag_of, in_flags


@dataclass(frozen=True, kw_only=True)
class Screen(Options):
    """What the terminal shows."""

    as_json: bool = option(
        False, "Print one JSON object on standard output, and nothing else there.", None, OUTPUT,
        flags=("--json",),
    )  # fmt: skip
    quiet: bool = option(
        False, "Suppress progress and notes; still print warnings and results.", None, OUTPUT,
        flags=("--quiet", "-q"),
    )  # fmt: skip
    debug: bool = option(False, "Show the traceback of an error.", None, OUTPUT)


@dataclass(frozen=True, kw_only=True)
class VerboseScreen(Screen):
    """The same, and how the numbers were computed."""

    verbose: bool = option(
        False, "Also show how products were computed and how long it took.", None, OUTPUT,
        flags=("--verbose", "-v"),
    )  # fmt: skip


O = TypeVar("O", bound=Options)  # noqa: E741
R = TypeVar("R", bound=Any)


def answer(
    options: O,
    screen: Screen,
    compute: Callable[[O], R],
    *saves: Callable[[O, R], R],
    show: Callable[[R], list[RenderableType]],
    content: Callable[[R], Any] = lambda report: report.as_dict(),
    display: Callable[[bool], AbstractContextManager[dict[str, Any]]] = terminal.watched,
) -> R:
    """Compute, write, show the result, and name the files.

    The result is shown also where it cannot be written.

    Args:
        options: of the command.
        screen: what the terminal shows.
        compute: does the work and writes nothing; its report has ``files``, what is written where.
        saves: each writes a file and returns the report with its path in ``files``.
        show: the report as tables.
        content: the report as JSON.
        display: shows the work as it proceeds; gives the options that are called with it.
    """
    with display(screen.quiet) as watched:
        report = compute(dataclasses.replace(options, **watched))
    options = dataclasses.replace(options, on_note=watched["on_note"])
    try:
        for save in saves:
            report = save(options, report)
    except KeyboardInterrupt:
        terminal.show_error("interrupted while writing; the files that are there are whole")
        raise SystemExit(INTERRUPTED) from None
    finally:
        if screen.as_json:
            text = json.dumps(content(report), indent=1, allow_nan=False, ensure_ascii=False)
            typer.echo(text)
        else:
            terminal.show(*show(report))
        if not screen.quiet:
            for what, path in report.files.items():
                if path is not None:
                    terminal.saved(what, path)
    return report


def with_default_out(options: O, checkpoint: Any, suffix: str) -> O:
    """Let the record be MODEL.SUFFIX.h5, MODEL.SUFFIX-2.h5, … in this folder, if none is named."""
    given: Any = options
    if given.out is not None:
        return options
    from hessscope import records

    name = f"{Path(checkpoint).stem}.{suffix}"
    path = records.numbered_path(Path.cwd(), name, ".h5").relative_to(Path.cwd())
    return dataclasses.replace(given, out=path)


def add_command(
    app: typer.Typer,
    name: str,
    function: Callable[[Any, Any], int | None],
    options: type[Options],
    screen: type[Screen] = Screen,
    *,
    examples: str,
) -> None:
    """Give the application a command whose parameters are the fields of two kinds of options.

    Args:
        app: the application.
        name: of the command.
        function: takes the options and the screen, returns the exit code if that is not 0; its
            docstring is the command's help.
        options: the library's; fields that only Python takes are left out.
        screen: the terminal's.
        examples: command lines, shown below the help, with a blank line between them.
    """
    shown = {
        kind: [n for n, how in kind.described().items() if how.panel is not None]
        for kind in (options, screen)
    }

    @functools.wraps(function)
    def command(**given: Any) -> None:
        made = [kind.of(**{n: given[n] for n in names}) for kind, names in shown.items()]
        terminal.first_sign(getattr(made[1], "quiet", False))
        if code := function(*made):
            raise SystemExit(code)

    parameters = [p for kind, names in shown.items() for p in _parameters(kind, names)]
    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    title = "Examples" if "\n\n" in examples.strip() else "Example"
    app.command(name, epilog=f"[bold]{title}[/bold]\n\n{examples.strip()}\n")(command)


def _parameters(kind: type[Options], names: list[str]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(kind)
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    found = []
    for name in names:
        how, default = kind.described()[name], defaults[name]
        required = default is dataclasses.MISSING
        typed: Any = _typed(hints[name], how)
        if default is None:
            typed = typed | None
        facts: dict[str, Any] = {
            "help": in_flags(how.help),
            "metavar": how.metavar,
            # A switch that is off, and what is None, say nothing by their default.
            "show_default": not (default in (None, False, True) or required),
        }
        if how.argument:
            declared: Any = typer.Argument(**facts)
        else:
            flags = how.flags or (flag_of(name, how),)
            declared = typer.Option(*flags, rich_help_panel=how.panel, **facts)
        found.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else _shown(default),
                annotation=Annotated[typed, declared],
            )
        )
    return found


def _typed(hint: Any, how: Option) -> Any:
    """What Typer reads from the command line; the options read the rest themselves."""
    members = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    kind = next((k for k in (bool, Path, str, int, float) if k in members), str)
    return list[kind] if how.many else kind  # type: ignore[valid-type]


def _shown(default: Any) -> Any:
    """Several values as the command line has them."""
    return (
        ",".join(f"{x:g}" for x in default) if isinstance(default, tuple) and default else default
    )
