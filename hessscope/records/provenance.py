"""Where a result comes from: versions, machine, time, files."""

from __future__ import annotations

import hashlib
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("hessscope", "torch", "numpy", "scipy", "h5py")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def provenance() -> dict[str, str]:
    """Versions, machine and time of writing."""
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }
    for package in PACKAGES:
        try:
            facts[f"version_{package.lower()}"] = version(package)
        except PackageNotFoundError:
            continue
    return facts
