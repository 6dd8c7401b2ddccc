"""Tokens: targets at the wrong place, and padding that counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from hessscope.errors import AssumptionWarning, ObjectiveError
from hessscope.objective import batches
from hessscope.objective.losses import IGNORED, Loss


def check_shift(loss: Loss, inputs: Any, targets: Any) -> None:
    """Refuse a loss that takes tokens where they stand for targets that are the inputs themselves.

    Such a loss asks for the token that the model was just given; it would be small and mean
    nothing. Likewise a loss that moves tokens by one takes none that have been moved already.

    Args:
        loss: ℓ.
        inputs: tokens (N, T), or a dict with ``input_ids``.
        targets: of the same examples.

    Raises:
        ObjectiveError: names the loss to take.
    """
    tokens = inputs.get("input_ids") if isinstance(inputs, dict) else inputs
    if not isinstance(tokens, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return
    numbers = tokens.is_floating_point() or targets.is_floating_point()
    if tokens.ndim != 2 or tokens.shape != targets.shape or numbers:
        return
    counted = targets != IGNORED
    same = bool((targets == tokens)[counted].all())
    moved = bool((targets[:, :-1] == tokens[:, 1:])[counted[:, :-1]].all())
    if same and loss.align is None and loss.targets == "classes":
        raise ObjectiveError(
            f"the targets are the tokens of the inputs themselves, and {loss.name} compares each "
            "with the outputs at its own place. For a model that predicts the next token give "
            "`loss=next_token`; for one that repeats its inputs, `targets=inputs`"
        )
    if moved and not same and loss.align is not None:
        raise ObjectiveError(
            f"the targets are the inputs moved by one already, and {loss.name} moves them itself: "
            "give `loss=cross_entropy@last`"
        )


def warn_of_padding(predict: Callable[[Any], Any], inputs: Any) -> None:
    """Compare the outputs for the example with the most padding with those without its padding.

    Args:
        predict: the model.
        inputs: a few examples; looked at where they are named inputs with ``attention_mask``.

    Cost: 2 passes forward over one example.
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    if mask is None or mask.ndim != 2 or bool((mask[:, 1:] > mask[:, :-1]).any()):
        return
    row = int(mask.sum(1).argmin())
    length, longest = int(mask[row].sum()), mask.shape[1]
    if not 0 < length < longest:
        return
    one = batches.pick(inputs, slice(row, row + 1))
    cut = {
        name: value[:, :length] if value.shape[1:2] == (longest,) else value
        for name, value in one.items()
    }
    counts = False
    with suppress(Exception):  # a model may take one length only
        for whole, part in zip(*(batches.leaves(predict(x)) for x in (one, cut)), strict=True):
            same = whole[:, :length] if whole.shape[1:2] == (longest,) else whole
            slack = 30 * torch.finfo(whole.dtype).eps ** 0.5 * float(part.abs().max())
            counts |= same.shape == part.shape and float((same - part).abs().max()) > slack
    if counts:
        warnings.warn(
            "the outputs of the model change when the padding of an example is cut off, though "
            "attention_mask is 0 there: the result depends on how the examples were padded. The "
            "model may not use the mask, or look for the end of its input by pad_token_id: pad "
            "with that token",
            AssumptionWarning,
            stacklevel=4,
        )
