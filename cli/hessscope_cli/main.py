"""Where ``hessscope`` starts: exit codes, and nothing but one line for an error.

Only the standard library is imported here. The rest (torch takes seconds) is imported in
``execute``, so that Ctrl-C ends cleanly from the first moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hessscope_cli.exit_codes import DONE, FAILED, INTERRUPTED, USAGE

if TYPE_CHECKING:
    from hessscope_cli.app import app as app


def __getattr__(name: str) -> Any:
    """Give the Typer application to tools that look for ``hessscope_cli.main:app``."""
    if name == "app":
        from hessscope_cli.app import app

        return app
    raise AttributeError(f"module 'hessscope_cli.main' has no attribute '{name}'")


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without Greek letters gets question marks, and not an error.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    with _stops_like_ctrl_c() as received:
        code = execute(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED and received:
        code = 128 + received[0]
    try:
        sys.stdout.flush()
    except OSError as error:
        _forget(sys.stdout)
        if code == DONE and not isinstance(error, BrokenPipeError):
            print(f"error: {_unwritten(error)}", file=sys.stderr)
        code = FAILED
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let what was closed (``>&-``) lead nowhere; else the next file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "w" if number else "r", closefd=False)
            setattr(sys, name, stream)


def _unwritten(error: OSError) -> str:
    return f"the output cannot be written ({error.strerror})"


@contextlib.contextmanager
def _stops_like_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM (SLURM, timeout) and SIGHUP (a closed terminal) do what Ctrl-C does.

    What is ignored stays ignored (nohup). Gives the numbers of the signals that came.
    """
    received: list[int] = []
    terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def handler(number: int, frame: Any) -> None:
        received.append(number)
        if number != signal.SIGTERM:
            for stream in terminals:  # nobody is there any more, and a write would fail
                _forget(stream)
        interrupt = signal.getsignal(signal.SIGINT)
        if not callable(interrupt):  # a shell starts what runs in the background so
            raise KeyboardInterrupt
        interrupt(signal.SIGINT, frame)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield received
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def execute(arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    try:
        return _execute(arguments)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _forget(sys.stdout)
        return FAILED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED


def _execute(arguments: list[str]) -> int:
    import typer

    from hessscope.errors import OptionError
    from hessscope_cli import terminal
    from hessscope_cli.app import app

    # Newer releases of Typer carry a Click of their own, so its classes are reached through Typer.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        result = app(arguments, prog_name="hessscope", standalone_mode=False)
    except usage_error as error:
        if message := error.format_message().strip():  # type: ignore[attr-defined]
            command = getattr(getattr(error, "ctx", None), "command_path", "hessscope")
            terminal.show_error(f"{message}{_given(error, arguments)} (see {command} --help)")
        return USAGE
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort as error:  # what older releases of Typer make of Ctrl-C
        raise KeyboardInterrupt from error
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        terminal.show_error(_describe(error))
        return USAGE if isinstance(error, OptionError) else FAILED
    if result == INTERRUPTED:  # what newer ones make of it
        raise KeyboardInterrupt
    return result if isinstance(result, int) else DONE


def _given(error: Exception, arguments: list[str]) -> str:
    """The value that an option was given, where the message (it is Typer's) leaves it out."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name, value in pairwise(arguments):
        if name in names and value not in str(error):
            return f"; it is '{value}'"
    return ""


def _describe(error: Exception) -> str:
    from hessscope.errors import HessscopeError
    from hessscope.pipeline.problems import out_of_memory

    if isinstance(error, HessscopeError):
        return str(error)
    if out_of_memory(error):
        return (
            "out of memory: take --backend lanczos with fewer --steps or --probes, a smaller "
            "--subset, or --dtype float32"
        )
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return _unwritten(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _forget(stream: Any) -> None:
    """Nobody reads on: let what is still written go nowhere instead of failing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
