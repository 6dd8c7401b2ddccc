"""Run what the README and the pages show, and put the real output and figures in.

Usage: ``python docs/make_examples.py [PAGE ...]`` (or ``make examples``; ``make notebooks`` for the
notebooks). On a page, ``<!-- run: COMMAND -->`` before a ``text`` block has the block replaced by
the command and what it prints, and ``<!-- output -->`` before one by what the Python block above it
prints. Blocks of a page run in order, in one empty folder. A Python block with ``<!-- not run -->``
above it is left alone, and so is one with ``<!-- file: PATH -->``, which another test writes and
uses. ``<!-- setup: COMMAND -->`` runs a command without showing anything. Figures
that a command writes and the page shows are copied to ``docs/images``.

Commands on full data sets need ``HESSSCOPE_DATA``, and checkpoints that are named but not made on
the page are looked for in ``HESSSCOPE_CHECKPOINTS``; without these their blocks stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hessscope_cli.main import execute

REPOSITORY = Path(__file__).resolve().parent.parent
IMAGES = REPOSITORY / "docs" / "images"
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
WIDTH = "88"

_BLOCK = re.compile(
    r"<!-- setup: (?P<setup>[^\n]+) -->\n"
    r"|(?P<mark><!-- (?P<what>run: (?P<command>[^\n]+)|output|not run|file: [^\n]+) -->\n)?"
    r"```(?P<language>[a-z]+)\n(?P<body>.*?)```\n",
    re.DOTALL,
)
_FULL_SETS = ("mnist", "fashion_mnist", "cifar10")


@dataclass(frozen=True)
class Block:
    """A fenced block: ``kind`` is "command", "setup", "python", "output" or "other"."""

    kind: str
    source: str
    body: str
    mark: str
    language: str = ""

    @property
    def text(self) -> str:
        """The block as it stands on the page."""
        if self.kind == "setup":
            return self.mark
        return f"{self.mark}```{self.language}\n{self.body}```\n"


class NotHereError(Exception):
    """The block needs a file that is not on this machine."""


def blocks(page: str) -> Iterator[Block | str]:
    """Split a page into blocks and the text between them."""
    end = 0
    for match in _BLOCK.finditer(page):
        yield page[end : match.start()]
        end = match.end()
        if match["setup"]:
            yield Block("setup", match["setup"], "", match[0])
            continue
        what, command = match["what"] or "", match["command"] or ""
        kind = "command" if command else "output" if what == "output" else "other"
        if match["language"] == "python" and not what.startswith(("not run", "file: ")):
            kind = "python"
        body = match["body"]
        yield Block(kind, command or body, body, match["mark"] or "", match["language"])
    yield page[end:]


def run_page(page: str, folder: Path) -> Iterator[Block | str]:
    """Run the blocks of a page in ``folder``; what prints comes back with its new body."""
    names: dict[str, object] = {"__name__": "example"}
    printed = ""
    for block in blocks(page):
        if isinstance(block, str):
            yield block
            continue
        body = block.body
        if block.kind == "python":
            printed = run_python(block.source, names, folder)
        elif block.kind == "output":
            body = printed
        elif block.kind in ("command", "setup"):
            try:
                body = f"$ {block.source}\n{run_command(block.source, folder)}"
            except NotHereError as error:
                print(f"  left alone: {block.source} ({error})", file=sys.stderr)
        yield replace(block, body=body)


def run_command(command: str, folder: Path) -> str:
    """Run a hessscope command in ``folder``; give what it prints, both streams in their order."""
    program, *arguments = shlex.split(command)
    if program != "hessscope":
        raise ValueError(f"not a hessscope command: {command}")
    provide(arguments, folder)
    with _terminal(folder) as printed, warnings.catch_warnings():
        code = execute(arguments)
    output = "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").split("\n"))
    if code not in (0, 3):
        raise RuntimeError(f"{command}: exit code {code}\n{output}")
    return output + "\n"


def run_python(source: str, names: dict[str, object], folder: Path) -> str:
    """Run a Python block in ``folder`` with the names of the blocks before; give what it prints."""
    with _terminal(folder) as printed:
        exec(compile(source, "<example>", "exec"), names)
    return printed.getvalue()


def provide(arguments: list[str], folder: Path) -> None:
    """Copy the checkpoint that a command names to ``folder``, if it was not made there.

    Raises:
        NotHereError: it is not on this machine, or the full data set is not.
    """
    if any(name in arguments for name in _FULL_SETS) and not os.environ.get("HESSSCOPE_DATA"):
        raise NotHereError("HESSSCOPE_DATA is not set")
    if len(arguments) < 2 or arguments[1].startswith("-") or (folder / arguments[1]).exists():
        return
    source = Path(os.environ.get("HESSSCOPE_CHECKPOINTS", "")) / arguments[1]
    if not os.environ.get("HESSSCOPE_CHECKPOINTS") or not source.is_file():
        raise NotHereError(f"no {arguments[1]} in HESSSCOPE_CHECKPOINTS")
    shutil.copyfile(source, folder / arguments[1])


@contextlib.contextmanager
def _terminal(folder: Path) -> Iterator[io.StringIO]:
    """Work in ``folder`` with a terminal of fixed width, and collect what is printed."""
    printed = io.StringIO()
    before, columns = Path.cwd(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        os.chdir(before)
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def renew_page(path: Path) -> None:
    """Run a page's blocks and write it anew, with its figures."""
    page = path.read_text("utf-8")
    if not any(isinstance(b, Block) and b.kind in ("command", "output") for b in blocks(page)):
        return
    print(path.relative_to(REPOSITORY), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hessscope-examples-") as name:
        folder = Path(name)
        new = "".join(b if isinstance(b, str) else b.text for b in run_page(page, folder))
        if name in new:
            raise RuntimeError(f"{path.name}: the temporary folder's name is in the output")
        IMAGES.mkdir(exist_ok=True)
        for figure in sorted(folder.rglob("*.png")):
            if f"images/{figure.name}" in page:
                shutil.copyfile(figure, IMAGES / figure.name)
    path.write_text(new, "utf-8")


def renew_notebook(path: Path) -> None:
    """Execute a notebook in an empty folder and write it back with its output."""
    import nbformat
    from nbclient import NotebookClient

    print(path.relative_to(REPOSITORY), file=sys.stderr)
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(prefix="hessscope-examples-") as folder:
        client = NotebookClient(
            notebook, timeout=600, record_timing=False, resources={"metadata": {"path": folder}}
        )
        client.execute()
    # Which Python ran it is not worth a difference at each run.
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


def main() -> None:
    """Renew the pages named, or all; with ``--notebooks`` the notebooks instead."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("pages", nargs="*", type=Path, help="README.md, docs/….md; default: all")
    parser.add_argument("--notebooks", action="store_true", help="execute the notebooks instead")
    arguments = parser.parse_args()
    if arguments.notebooks:
        os.environ.pop("MPLBACKEND", None)  # the kernel draws into the notebook
        for path in arguments.pages or sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
            renew_notebook(path.resolve())
        return
    os.environ["MPLBACKEND"] = "agg"
    for path in arguments.pages or PAGES:
        renew_page(path.resolve())


if __name__ == "__main__":
    main()
