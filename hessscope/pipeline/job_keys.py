"""The content behind the options of a job, which makes its key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import hessscope
from hessscope.errors import CheckpointError
from hessscope.loaders import CheckpointFile
from hessscope.loaders.user_code import digest_of
from hessscope.pipeline.problems import Problem, open_data
from hessscope.pipeline.stored_options import code_of
from hessscope.records import file_sha256

#: States of one version are not resumed by another.
VERSIONS = (f"hessscope {hessscope.__version__}", f"torch {torch.__version__}")


def content_of(setting: Any, digest: Callable[[Path], str] = file_sha256) -> tuple[str, ...]:
    """What stands behind the options that name checkpoint, data and code, for ``Options.job_key``.

    Args:
        setting: with the fields ``checkpoint``, ``data``, ``model`` and ``loss``.
        digest: of a file.
    """
    sources = (setting.data, setting.tokenizer)
    if all(map(_is_one_file, sources)):
        data = str([digest_of(source, digest) for source in sources])
    else:  # folders and objects in memory are told apart by what is in them
        data = open_data(Problem.of(setting)).fingerprint
    try:
        file = CheckpointFile.open(setting.checkpoint, setting.trust, setting.key)
        content, stored = file.raw.sha256, file.setting
    except CheckpointError:
        content, stored = "missing", None
    return (
        content,
        data,
        str(code_of(stored, setting.model, setting.loss, digest)),
    )


def _is_one_file(source: Any) -> bool:
    """Whether it stands for a file, a name or nothing."""
    one = isinstance(source, (str, Path)) and not Path(source).expanduser().is_dir()
    return source is None or one
