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
    """What the checkpoint says for options that were not given; nothing for foreign files.

    Options of the data apply only where the data is the checkpoint's own, and the subset only
    together with the split. What names code to be run applies only with trust.

    Args:
        setting: what the checkpoint states about itself.
        given: options that the user gave, which win.

    Returns:
        Options as fields of ``Problem``; ``stored`` has their names, ``withheld`` says in words
        what would need trust, ``data_fingerprint`` is that of the data they stand for.
    """
    if setting is None:
        return {}
    found: dict[str, Any] = {}
    withheld: list[str] = []
    trust = bool(given.get("trust"))
    if "model" not in given and names_code(setting.architecture) and not trust:
        withheld.append(f"model {setting.architecture}")
    if "loss" not in given and setting.loss is not None:
        if names_code(setting.loss) and not trust:
            withheld.append(f"loss {setting.loss}")
        else:
            found["loss"] = setting.loss
    if "l2" not in given and setting.l2 is not None:
        found["l2"] = float(setting.l2)
    found.update(_data_options(setting, given, trust, withheld))
    return {**found, "stored": _named(found), "withheld": tuple(withheld)}


def _data_options(
    setting: StoredSetting, given: Mapping[str, Any], trust: bool, withheld: list[str]
) -> dict[str, Any]:
    data = given.get("data", setting.data)
    if setting.data is None or spelled_out(data) != setting.data:
        return {}
    found: dict[str, Any] = {}
    if "data" not in given:
        if names_code(setting.data) and not Path(setting.data).is_file() and not trust:
            withheld.append(f"data {setting.data}")
            return {}
        found["data"] = setting.data
    own = [name for name in (*_PREPARATION, "split", "subset") if name in given]
    for name in _PREPARATION:
        if name not in given:
            found[name] = getattr(setting, name)
    if "split" not in given:
        found["split"] = setting.split
        if "subset" not in given:
            found["subset"], found["subset_seed"] = setting.subset, setting.subset_seed
    if "root" not in given and setting.root is not None and Path(setting.root).is_dir():
        found["root"] = setting.root
    if not own:
        found["data_fingerprint"] = setting.data_fingerprint
    return {name: value for name, value in found.items() if value is not None}


def _named(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that a note should list: not what goes without saying."""
    silent = {"data_fingerprint", "subset_seed"}
    return tuple(name for name, value in found.items() if name not in silent and value)


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
