"""Steps of torch's optimisers on batches."""

from __future__ import annotations

import copy
from typing import Any

import torch

from hessscope.objective import EmpiricalRisk
from hessscope.objective.batches import pick
from hessscope.options.train import TrainingOptions
from hessscope.training.history import Step


class GradientSteps:
    """Mini-batch steps of a first-order method on a model in training mode.

    Args:
        risk: the loss and the data.
        model: what is trained, in place.
        options: of the run.
        noise: stream of the optimiser's own random numbers.
    """

    def __init__(
        self,
        risk: EmpiricalRisk,
        model: torch.nn.Module,
        options: TrainingOptions,
        noise: torch.Generator,
    ) -> None:
        self._risk, self._model = risk, model
        self._curvature = options.log_curvature
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = options.method.make(self._parameters, options, noise)

    def step(self, which: torch.Tensor | slice) -> Step:
        """Take a step with the gradient over the examples ``which``; see ``Step`` for the log."""
        inputs, targets = pick(self._risk.inputs, which), pick(self._risk.targets, which)
        logged: Step | None = None

        def closure() -> float:
            nonlocal logged
            logged = self._differentiate(inputs, targets)
            return logged.loss

        self._optimizer.step(closure)
        assert logged is not None
        return logged

    def _differentiate(self, inputs: Any, targets: Any) -> Step:
        outputs = self._risk.outputs_of(self._model, inputs)
        loss = self._risk.loss(outputs, targets).mean()
        if self._risk.l2:
            squares = sum(p.square().sum() for p in self._parameters)
            loss = loss + 0.5 * self._risk.l2 * squares
        gradient = torch.autograd.grad(
            loss,
            self._parameters,
            create_graph=self._curvature,
            allow_unused=True,
            materialize_grads=True,
        )
        value = float(loss.detach())
        step = Step(value)
        if self._curvature:
            step = Step(value, *curvature_along(gradient, self._parameters))
        for parameter, part in zip(self._parameters, gradient, strict=True):
            parameter.grad = part.detach().clone() if self._curvature else part
        return step

    def state(self) -> dict[str, Any]:
        """What the next step depends on, as plain values and tensors."""
        return copy.deepcopy(self._optimizer.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from what ``state`` gave."""
        self._optimizer.load_state_dict(state)


def curvature_along(
    gradient: tuple[torch.Tensor, ...], parameters: list[torch.nn.Parameter]
) -> tuple[float, float]:
    """gᵀg and gᵀHg of a gradient that was computed with its graph; one Hessian-vector product."""
    fixed = [part.detach() for part in gradient]
    product = sum(((g * f).sum() for g, f in zip(gradient, fixed, strict=True)))
    assert isinstance(product, torch.Tensor)
    squares = float(product.detach())
    if not product.requires_grad:  # the loss is linear in the parameters
        return squares, 0.0
    image = torch.autograd.grad(product, parameters, allow_unused=True, materialize_grads=True)
    along = sum(float((h * f).sum()) for h, f in zip(image, fixed, strict=True))
    return squares, along
