"""Targets that are tokens: whether they belong to the places that the loss compares them with."""

from __future__ import annotations

from typing import Any

import torch

from hessscope.errors import ObjectiveError
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
