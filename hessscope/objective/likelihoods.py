"""Losses that are negative log-likelihoods, and their expected curvature over the model's labels.

Such a loss is −log p(y | f) up to a constant, in the mean over the M independent observations that
the labels are (examples, and positions or outputs within them). Its Fisher information in the
outputs f is the expectation of the second derivative, and of the score's outer product, over labels
drawn from the model itself (Martens, JMLR 21:146, 2020). Here it is in closed form, with the loss's
own factor 1/M, so that it compares with the Hessian as it stands:

    cross_entropy       diag(p) − p pᵀ, p = softmax(f)
    nll                 diag(p), p = exp(f)
    nll_probabilities   diag(1/f)
    bce                 p (1 − p), p = sigmoid(f)
    mse                 2, the inverse variance of the Gaussian for which it is −log p
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hessscope.errors import ObjectiveError
from hessscope.objective.losses import LOSSES, Loss
from hessscope.objective.terms import BatchTerm

# The information of one observation, as a product: outputs, axis of the classes, vectors.
Information = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]


def _softmax(logits: torch.Tensor, axis: int, vectors: torch.Tensor) -> torch.Tensor:
    weighted = torch.softmax(logits, axis) * vectors
    return weighted - torch.softmax(logits, axis) * weighted.sum(axis, keepdim=True)


def _log_probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return outputs.exp() * vectors


def _probabilities(outputs: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return vectors / outputs


def _bits(logits: torch.Tensor, _: int, vectors: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(logits) * torch.sigmoid(-logits) * vectors


def _gaussian(_: torch.Tensor, __: int, vectors: torch.Tensor) -> torch.Tensor:
    return 2 * vectors


_LABELS: dict[str, Information] = {
    "cross_entropy": _softmax,
    "nll": _log_probabilities,
    "nll_probabilities": _probabilities,
}
_VALUES: dict[str, Information] = {"bce": _bits, "mse": _gaussian}


def require_likelihood(loss: Loss) -> None:
    """Refuse a loss that is no log-likelihood of the targets, as far as is known.

    Raises:
        ObjectiveError: says which losses are.
    """
    known = (*_LABELS, *_VALUES)
    # A function of the user's own may bear one of the names.
    if loss.plain_name not in known or LOSSES[loss.plain_name].function is not loss.function:
        raise ObjectiveError(
            f"the Fisher matrix needs a loss that is a log-likelihood ({', '.join(known)}), and "
            f"'{loss.name}' is not known to be one: take `operator=gauss_newton` (any loss) or "
            "`operator=empirical_fisher` (gradients of the examples)"
        )


def expected_curvature(
    term: BatchTerm, outputs: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products with the Fisher information of a batch in the model's outputs.

    Args:
        term: with one of the losses above.
        outputs: f, shape (count, …).

    Returns:
        A function of vectors, (k, *outputs.shape) to the same.
    """
    name, axis, observations = term.loss.plain_name, -1, outputs.numel() // term.count
    if name in _LABELS:
        # Counted from the end, since the vectors have a dimension more in front.
        axis = 1 - outputs.ndim if term.loss.class_axis == 1 else -1
        observations //= outputs.shape[axis]
    information = (_LABELS | _VALUES)[name]
    scale = 1.0 / (term.total * observations)
    return lambda vectors: scale * information(outputs, axis, vectors)
