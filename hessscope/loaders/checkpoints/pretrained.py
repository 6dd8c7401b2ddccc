"""Folders that ``save_pretrained`` of transformers wrote: a config.json beside the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from hessscope.errors import (
    ArchitectureError,
    CheckpointError,
    HessscopeError,
    UntrustedCheckpointError,
)
from hessscope.loaders.checkpoints.checkpoint import StoredSetting
from hessscope.loaders.checkpoints.formats import Format, Stored, recognise
from hessscope.loaders.checkpoints.raw_files import ADAPTER_CONFIG, CONFIG, TRAINER_STATE, RawFile
from hessscope.loaders.checkpoints.state_dicts import State, shorten
from hessscope.loaders.extras import extra

# Ends of the names of classes: the automatic class of that kind, and its loss.
_KINDS = {
    "ForCausalLM": ("AutoModelForCausalLM", "next_token"),
    "LMHeadModel": ("AutoModelForCausalLM", "next_token"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "cross_entropy@last"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "cross_entropy@last"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "cross_entropy"),
    "ForImageClassification": ("AutoModelForImageClassification", "cross_entropy"),
}
_LAYERS = re.compile("((num|n|encoder|decoder)_)?(hidden_)?(layers?|depth)")
_PROBLEMS = {
    "regression": "mse",
    "single_label_classification": "cross_entropy",
    "multi_label_classification": "bce",
}


class PretrainedFormat(Format):
    """Weights of one file or of shards, and the configuration of a class of transformers."""

    def recognises(self, file: RawFile) -> bool:
        """A config.json is beside it."""
        return CONFIG in file.beside and ADAPTER_CONFIG not in file.beside

    def read(self, file: RawFile) -> Stored:
        """Give the tensors, and what makes the network; transformers is not imported yet."""
        weights = replace(file, beside={})
        stored = recognise(weights).read(weights)
        config = file.beside[CONFIG].fields
        if not {"architectures", "model_type"} & config.keys():
            return stored  # of another library: the network has to be given
        name = class_in(config)
        return replace(
            stored,
            kind=f"Hugging Face folder, {stored.kind}",
            architecture=versioned(name or "the network of config.json", "transformers"),
            metadata={**stored.metadata, **training_in(file)},
            network=partial(configured, file, name),
            setting=StoredSetting(loss=loss_of(name, config)),
        )


def class_in(config: Mapping[str, Any]) -> str:
    """The class that a config.json names; empty where it names none.

    Raises:
        CheckpointError: what it names can be no class.
    """
    named = config.get("architectures") or [""]
    if not isinstance(named, list) or not all(isinstance(n, str) for n in named):
        raise CheckpointError(f"its {CONFIG} is damaged: architectures is {named!r}, not names")
    if named[0] and not named[0].isidentifier():
        raise CheckpointError(f"its {CONFIG} names '{named[0]}', which can be no class")
    return named[0]


def training_in(file: RawFile) -> dict[str, Any]:
    """Epoch and step that the ``Trainer`` of transformers wrote beside the weights."""
    if TRAINER_STATE not in file.beside:
        return {}
    stated = file.beside[TRAINER_STATE].fields
    return {name: stated[name] for name in ("epoch", "global_step") if name in stated}


def versioned(what: str, *packages: str) -> str:
    """With the versions of packages behind it, as far as they are installed."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{what} ({', '.join(found)})" if found else what


def loss_of(name: str, config: Mapping[str, Any]) -> str | None:
    """What the class minimises, by name; None where that is none of hessscope's losses."""
    loss = next((loss for end, (_, loss) in _KINDS.items() if name.endswith(end)), None)
    if loss != "cross_entropy":
        return loss
    labels = config.get("num_labels", len(config.get("id2label") or (0, 1)))
    stated = config.get("problem_type")
    if stated is None:
        return "mse" if labels == 1 else loss
    return _PROBLEMS.get(stated)


def configured(
    file: RawFile, name: str, weights: State, trust: bool, head: str = "", **changes: Any
) -> nn.Module:
    """Make the network of a folder, with all its weights, in float32 or wider.

    ``from_pretrained`` puts them in, since it knows what older versions called them and what is
    stored in parts; all that it would leave random is refused.

    Args:
        file: the folder.
        name: of the class; empty where the automatic class is meant.
        weights: the tensors in the folder.
        trust: whether code in the folder may run.
        head: pattern of names that may lack, since they are put in later, where another head than
            that in the folder, whose weights are then left out, is wanted.
        **changes: of the configuration.

    Raises:
        ArchitectureError: there is no such class, or it does not fit the weights.
        UntrustedCheckpointError: the class is code in the folder.
    """
    transformers = extra("transformers", "hf", f"the network of {file.path}", ArchitectureError)
    stated = file.beside[CONFIG].fields
    if "quantization_config" in stated:
        raise ArchitectureError("its weights are quantised: save the dequantised network")
    kinds = [value.dtype for value in weights.values() if value.is_floating_point()]
    dtype = torch.float64 if torch.float64 in kinds else torch.float32
    with _silent(transformers):
        try:
            kind, config = _class_of(transformers, file, name, trust)
            _check_layers(config, len(weights))
            for part in (config, *(getattr(config, n, None) for n in config.sub_configs)):
                for key, value in (("use_cache", False), ("return_dict", True)):
                    if hasattr(part, key):
                        setattr(part, key, value)
            for key, value in changes.items():
                setattr(config, key, value)
            model, report = kind.from_pretrained(
                None, config=config, state_dict=dict(weights), dtype=dtype,
                attn_implementation="eager", output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
        except HessscopeError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise ArchitectureError(
                f"transformers {transformers.__version__} cannot make {name or 'the network'} from "
                f"its {CONFIG} and weights: {type(error).__name__}: {reason}"
            ) from error
    unlisted = "|".join(getattr(model, "_keys_to_ignore_on_load_missing", None) or ())
    hidden = {
        key for key, _ in model.named_parameters()
        if unlisted and re.search(unlisted, key) and key not in weights
    }  # fmt: skip
    missing = hidden | set(report["missing_keys"])
    wrong = {
        "missing in the file": [k for k in missing if not (head and re.search(head, k))],
        "unexpected in the file": [] if head else list(report["unexpected_keys"]),
        "shape conflicts": [
            entry  # transformers 4 lists no shapes
            if isinstance(entry, str)
            else f"{entry[0]} is {tuple(entry[1])} in the file and {tuple(entry[2])} in the model"
            for entry in report["mismatched_keys"]
        ],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {shorten(sorted(k))}" for what, k in wrong.items() if k)
        raise ArchitectureError(f"the weights do not fit {type(model).__name__}. {listed}")
    made: nn.Module = model
    return made


def _class_of(transformers: Any, file: RawFile, name: str, trust: bool) -> tuple[Any, Any]:
    """The class and its configuration."""
    stated = file.beside[CONFIG].fields
    automatic = next((auto for end, (auto, _) in _KINDS.items() if name.endswith(end)), "AutoModel")
    code = stated.get("auto_map")
    if code:
        if not trust:
            raise UntrustedCheckpointError(
                f"its {CONFIG} names code of its own for the network ({code}): give "
                "`model=file.py:factory` if you know it. If you trust the folder: `trust=True`"
            )
        folder = file.beside[CONFIG].path.parent
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
        found = [ref for ref in code.values() if isinstance(ref, str) and ref.endswith(f".{name}")]
        modules = extra("transformers.dynamic_module_utils", "hf", "code in the folder")
        reference = found[0] if found else code[automatic]
        return modules.get_class_from_dynamic_module(reference, folder), config
    if "model_type" not in stated:
        raise ArchitectureError(f"its {CONFIG} does not state model_type: write it there")
    config = transformers.AutoConfig.for_model(**stated)
    kind: Any = getattr(transformers, name, None) if name else None
    if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
        if not isinstance(config, kind.config_class):  # type: ignore[attr-defined]
            raise ArchitectureError(
                f"its {CONFIG} names {name} and model_type {stated['model_type']}, which do not "
                "belong together"
            )
        return kind, config
    return getattr(transformers, automatic)._model_mapping[type(config)], config


def _check_layers(config: Any, tensors: int) -> None:
    """Refuse more layers than there are tensors: making millions would take for ever."""
    for part in (config, *(getattr(config, n, None) for n in config.sub_configs)):
        for name, value in (vars(part) if part is not None else {}).items():
            if _LAYERS.fullmatch(name) and isinstance(value, int) and value > tensors:
                raise ArchitectureError(
                    f"its {CONFIG} states {name} {value:,}, and there are {tensors} tensors"
                )


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Without transformers' own warnings and bars: what is amiss becomes an error here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
