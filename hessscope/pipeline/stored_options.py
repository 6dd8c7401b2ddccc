"""Options that a checkpoint of ``hessscope train`` states, and the code behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hessscope.loaders import StoredSetting
from hessscope.loaders.user_code import digest_of, names_code, spelled_out
from hessscope.records import file_sha256

_PREPARATION = ("resize", "grayscale", "normalize", "targets")


def options_in(setting: StoredSetting | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's values for options that were not given; none from foreign files.

    Options of the data apply only where the data is the checkpoint's own, and the subset only
    together with the split. What names code to be run applies only with trust.

    Args:
        setting: what the checkpoint states about itself.
        given: options that the user gave, which win.

    Returns:
        Options as fields of ``Problem``; ``stored`` has their names, ``withheld`` lists in words
        what would need trust, ``data_fingerprint`` is that of the data they stand for.
    """
    if setting is None:
        return {}
    named: dict[str, Any] = {
        "model": setting.architecture,
        "loss": setting.loss,
        "l2": setting.l2,
        "data": setting.data,
    }
    found = {n: value for n, value in named.items() if n not in given and value is not None}
    code = [
        name
        for name, value in found.items()
        if names_code(value) and not (name == "data" and Path(value).is_file())
    ]
    code = [] if given.get("trust") else code
    withheld = tuple(f"{name} {found.pop(name)}" for name in code)
    found.pop("model", None)
    data = given.get("data", found.get("data"))
    if data is not None and spelled_out(data) == setting.data:
        found |= _preparation(setting, given)
    silent = {"data_fingerprint", "subset_seed"}  # they go without saying
    return {
        **found,
        "stored": tuple(name for name, value in found.items() if name not in silent and value),
        "withheld": withheld,
    }


def _preparation(setting: StoredSetting, given: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in (*_PREPARATION, "split") if name not in given]
    found = {name: getattr(setting, name) for name in names}
    if not {"split", "subset"} & given.keys():
        found |= {"subset": setting.subset, "subset_seed": setting.subset_seed}
    if "root" not in given and setting.root is not None and Path(setting.root).is_dir():
        found["root"] = setting.root
    if not {*_PREPARATION, "split", "subset"} & given.keys():
        found["data_fingerprint"] = setting.data_fingerprint
    return {name: value for name, value in found.items() if value is not None}


def code_of(
    stored: StoredSetting | None,
    model: Any,
    loss: Any,
    digest: Callable[[Path], str] = file_sha256,
) -> dict[str, str]:
    """SHA-256 of the code of network and loss, as records have them; no entry where none is named.

    Args:
        stored: what the checkpoint states; it may name the code of its network itself.
        model: as in ``Problem``.
        loss: as in ``Problem``.
        digest: of a file.
    """
    if model is None and stored is not None:
        model = stored.architecture
    found = {"model_code_sha256": model, "loss_code_sha256": loss}
    digests = {
        key: digest_of(named, digest)
        for key, named in found.items()
        if not isinstance(named, str) or names_code(named)
    }
    return {key: value for key, value in digests.items() if value is not None}
