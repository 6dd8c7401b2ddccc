"""Folders of the Hugging Face Hub, from the local cache or a connection."""

from __future__ import annotations

from pathlib import Path

from hessscope.errors import CheckpointError
from hessscope.loaders.extras import extra

HUB = "hf:"
# Weights of other frameworks, and second copies of the same ones, are left on the hub.
_WANTED = ["*.json", "*.py", "*.safetensors"]
_UNWANTED = ["*/*", "consolidated*"]


def snapshot(spec: str) -> tuple[Path, str]:
    """Find ``hf:NAME`` or ``hf:NAME@REVISION`` in the cache, or download it.

    Args:
        spec: a branch, a tag or a commit may follow the name.

    Returns:
        The folder, and the name with the commit: ``hf:NAME@COMMIT``.

    Raises:
        CheckpointError: it is not in the cache, and cannot be downloaded.
    """
    hub = extra("huggingface_hub", "hf", spec, CheckpointError)
    name, _, revision = spec.removeprefix(HUB).partition("@")
    try:
        found: dict[str, str | None] = {"repo_id": name, "revision": revision or None}
        folder = Path(
            hub.snapshot_download(**found, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
        )
        if not any(folder.glob("*.safetensors")):
            hub.snapshot_download(**found, allow_patterns="*.bin*", ignore_patterns=_UNWANTED)
    except Exception as error:  # of requests, of files, and the hub's own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{spec} is neither in the local cache ({hub.constants.HF_HUB_CACHE}) nor can it be "
            f"downloaded ({type(error).__name__}: {reason}): check name and connection, or give "
            "the path of a folder"
        ) from error
    return folder, f"{HUB}{name}@{folder.name}"
