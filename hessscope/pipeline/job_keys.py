"""What makes two commands the same job: a digest of their options and of the files they name."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hessscope.loaders import content_sha256, weights_in
from hessscope.pipeline.contents import code_of, digest_of
from hessscope.pipeline.problems import Problem, open_data
from hessscope.records import file_sha256


def plain_problem(problem: Problem) -> Problem:
    """The problem's options alone: no files, and functions by their names."""
    return dataclasses.replace(
        problem,
        checkpoint="",
        data="",
        model=_name(problem.model),
        loss=_name(problem.loss),
        stored=(),
    )


def job_key(problem: Problem, options: str, digest: Callable[[Path], str] = file_sha256) -> str:
    """A digest of checkpoint, data and code by their content, and of the options.

    Args:
        problem: whose files are read.
        options: all that decides the result beside them, ``plain_problem`` included.
        digest: of a file.
    """
    path = Path(problem.checkpoint)
    folder = weights_in(path) if path.is_dir() else None
    file = folder or path
    content = content_sha256(file) if file.is_file() else "missing"
    if not isinstance(problem.data, (str, Path, type(None))):
        # Objects in memory are told apart by what is in them.
        data = open_data(problem).fingerprint
    else:
        data = f"{problem.data} {digest_of(problem.data, digest)}"
    code = str(code_of(file, problem.model, problem.loss, digest))
    parts = (str(file), content, data, code, options)
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _name(value: Any) -> str | None:
    """Factories and functions by their name, since their address says nothing."""
    if value is None or isinstance(value, str):
        return value
    return str(getattr(value, "__qualname__", type(value).__qualname__))
