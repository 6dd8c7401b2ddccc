"""The command ``hessscope``: sub-commands, exit codes, and nothing but one line for an error."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

import hessscope
from hessscope.errors import HessscopeError, OptionError
from hessscope_cli import demo, inspect, spectrum, terminal

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# Newer releases of Typer carry a Click of their own, so its classes are reached through Typer.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="hessscope",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hessian spectra of trained PyTorch checkpoints: how many directions go down (index), "
    "how many are flat (degeneracy), and how sure these numbers are.",
)
app.command("spectrum", epilog=spectrum.EXAMPLES)(spectrum.command)
app.command("inspect", epilog=inspect.EXAMPLES)(inspect.command)
app.command("demo", epilog=demo.EXAMPLES)(demo.command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"hessscope {hessscope.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    terminal.show_warnings()


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        result = app(arguments, standalone_mode=False)
    except _UsageError as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "hessscope")
        terminal.show_error(f"{error.format_message()} (see {command} --help)")  # type: ignore[attr-defined]
        return USAGE
    except typer.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        terminal.show_error("interrupted; nothing was written")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        terminal.show_error(_describe(error))
        return USAGE if isinstance(error, OptionError) else FAILED
    return result if isinstance(result, int) else DONE


def _describe(error: Exception) -> str:
    if isinstance(error, HessscopeError):
        return str(error)
    if isinstance(error, MemoryError) or "not enough memory" in str(error).lower():
        return "out of memory: take fewer --steps or --probes, a smaller --subset, or float32"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"
