"""Adapters of peft (LoRA and others), merged into the network that they change."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from hessscope.errors import ArchitectureError
from hessscope.loaders.checkpoints.checkpoint import StoredSetting
from hessscope.loaders.checkpoints.finding import find_weights
from hessscope.loaders.checkpoints.formats import Format, Stored, recognise
from hessscope.loaders.checkpoints.pretrained import (
    class_in,
    configured,
    loss_of,
    training_in,
    versioned,
)
from hessscope.loaders.checkpoints.raw_files import ADAPTER_CONFIG, BASE, CONFIG, RawFile, naming
from hessscope.loaders.checkpoints.state_dicts import State, shorten
from hessscope.loaders.extras import extra

# Ends of the names of classes, by what peft calls the tasks.
_TASKS = {
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
}


class AdapterFormat(Format):
    """The weights of an adapter, its configuration, and its base."""

    def recognises(self, file: RawFile) -> bool:
        """Its base has been read with it."""
        return BASE in file.beside

    def read(self, file: RawFile) -> Stored:
        """Give the tensors of the adapter, and what merges it."""
        weights = replace(file, beside={})
        stored = recognise(weights).read(weights)
        stated, base = file.beside[ADAPTER_CONFIG].fields, file.beside[BASE]
        own = class_in(base.beside[CONFIG].fields)
        task = _TASKS.get(str(stated.get("task_type")), "")
        wanted = str((stated.get("auto_mapping") or {}).get("base_model_class") or own)
        name = wanted if wanted.endswith((task, "LMHeadModel")) or not task else task
        labels = _labels_in(stated, find_weights(stored.content).state) if name != own else {}
        return replace(
            stored,
            kind=f"peft adapter, {stored.kind}",
            architecture=versioned(
                f"{name} with its adapter {stated.get('peft_type')} merged", "transformers", "peft"
            ),
            metadata={**stored.metadata, "base": str(base.path), **training_in(file)},
            network=partial(_merged, file, name, labels),
            setting=StoredSetting(loss=loss_of(name, {**base.beside[CONFIG].fields, **labels})),
        )


def _labels_in(stated: dict[str, Any], weights: State) -> dict[str, int]:
    """Number of labels of the head that was saved with the adapter; empty where there is none."""
    heads = tuple(f".{name}.weight" for name in stated.get("modules_to_save") or ())
    found = [v.shape[0] for name, v in weights.items() if name.endswith(heads) and v.ndim == 2]
    return {"num_labels": int(found[-1])} if found else {}


def _merged(
    file: RawFile, name: str, labels: dict[str, int], weights: State, trust: bool
) -> nn.Module:
    """The base with the adapter's changes added to its weights, in float32 or wider.

    Raises:
        ArchitectureError: the two do not fit, or this kind of adapter cannot be merged.
    """
    peft = extra("peft", "hf", f"the adapter {file.path}", ArchitectureError)
    base, config = file.beside[BASE], file.beside[ADAPTER_CONFIG]
    other = name != class_in(base.beside[CONFIG].fields)
    saved = config.fields.get("modules_to_save") or ()
    head = "|".join(rf"(^|\.){module}\." for module in saved) if other else ""
    with naming(base.path):
        tensors = find_weights(recognise(base).read(base).content).state
        network = configured(base, name, tensors, trust, head, **labels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = peft.PeftModel.from_pretrained(network, str(config.path.parent))
            held = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
            odd = held.keys() ^ weights.keys()
            odd |= {k for k in held.keys() & weights.keys()
                    if not torch.equal(held[k], weights[k].to(held[k].dtype))}  # fmt: skip
            merged: nn.Module = model.merge_and_unload(safe_merge=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ArchitectureError(
            f"peft {peft.__version__} cannot merge it into {base.path}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    if odd:
        raise ArchitectureError(
            f"the adapter does not fit {base.path}; missing, unexpected or of another shape: "
            f"{shorten(sorted(odd))}"
        )
    return merged.requires_grad_(True)
