"""Optimizers of first order: torch's, and those with noise that drives them off saddles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer

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
        method = options.method
        own = {name: getattr(options, name) for name in method.uses}
        if method.draws:
            own["generator"] = noise
        self._optimizer = method.kind(self._parameters, options.learning_rate, **own)

    def step(self, which: torch.Tensor | slice) -> Step:
        """Take a step with the gradient over the examples ``which``; see ``Step`` for the log."""
        inputs, targets = pick(self._risk.inputs, which), pick(self._risk.targets, which)
        logged: list[Step] = []

        def closure() -> float:
            logged.append(self._differentiate(inputs, targets))
            return logged[-1].loss

        self._optimizer.step(closure)
        return logged[-1]

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
        along = curvature_along(gradient, self._parameters) if self._curvature else ()
        for parameter, part in zip(self._parameters, gradient, strict=True):
            parameter.grad = part.detach().clone() if self._curvature else part
        return Step(float(loss.detach()), *along)

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


Closure = Callable[[], Any]


class NoisySGD(torch.optim.SGD):
    """θ ← θ − η (g + ξ), ξ uniform, at every step (Ge et al. 2015, arXiv:1503.02101, algorithm 1).

    Args:
        params: as for every torch optimizer.
        lr: η.
        noise: a, the amplitude.
        noise_shape: "cube": every component of ξ is uniform in [−a, a], so that its mean square is
            a²/3; "sphere": ξ is uniform on the sphere of radius a in the space of all
            parameters, as in the paper (with a = 1).
        generator: stream of the noise, on the CPU.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        noise: float,
        noise_shape: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__(params, lr)
        self._noise, self._shape, self._generator = noise, noise_shape, generator

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Take a step; the closure computes loss and gradients."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        gradients = [p.grad for p in _trained(self)]
        n = sum(g.numel() for g in gradients)
        if self._shape == "sphere":
            drawn = on_sphere(n, self._noise, self._generator)
        else:
            drawn = (2.0 * torch.rand(n, generator=self._generator) - 1.0) * self._noise
        _add(drawn, gradients)
        super().step()
        return loss


class PerturbedGradientDescent(torch.optim.SGD):
    """Gradient descent that jumps where the gradient is small (Jin et al. 2017, arXiv:1703.00887).

    Where ‖g‖ ≤ threshold, and the last jump lies more than ``perturbation_interval`` steps back,
    ξ uniform in the ball of radius r is added to θ; then follows the step θ ← θ − η g(θ), as in
    lines 3 to 7 of their algorithm 2. Its stopping rule (no sufficient decrease after a jump) is
    left to the caller.

    Args:
        params: as for every torch optimizer.
        lr: η.
        perturbation_radius: r.
        perturbation_threshold: gradient norm at or below which θ is perturbed.
        perturbation_interval: steps that have to lie between two jumps.
        generator: stream of the noise, on the CPU.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        perturbation_radius: float,
        perturbation_threshold: float,
        perturbation_interval: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__(params, lr)
        self._radius, self._threshold = perturbation_radius, perturbation_threshold
        self._interval, self._generator = perturbation_interval, generator
        # Counters stand in the group, so that they are in the state that is saved.
        self.param_groups[0].update(steps=0, last_jump=-perturbation_interval - 1, jumps=0)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Take a step; the closure computes loss and gradients, a second time after a jump.

        Raises:
            ValueError: there is no closure, with which to compute the gradient anew.
        """
        if closure is None:
            raise ValueError("perturbed gradient descent needs a closure: step(closure)")
        closure = torch.enable_grad()(closure)
        loss, parameters, counters = closure(), _trained(self), self.param_groups[0]
        squares = sum(float(p.grad.square().sum()) for p in parameters)
        rested = counters["steps"] - counters["last_jump"] > self._interval
        if rested and math.sqrt(squares) <= self._threshold:
            n = sum(p.numel() for p in parameters)
            _add(in_ball(n, self._radius, self._generator), parameters)
            counters["last_jump"] = counters["steps"]
            counters["jumps"] += 1
            loss = closure()
        super().step()
        counters["steps"] += 1
        return loss


def on_sphere(n: int, radius: float, generator: torch.Generator) -> torch.Tensor:
    """A vector of shape (n,), uniform on the sphere of this radius; float64."""
    direction = torch.randn(n, generator=generator, dtype=torch.float64)
    return direction * (radius / torch.linalg.vector_norm(direction))


def in_ball(n: int, radius: float, generator: torch.Generator) -> torch.Tensor:
    """A vector of shape (n,), uniform in the ball of this radius; float64.

    The volume within a distance s goes as sⁿ, so the distance is r·u^(1/n) with u uniform.
    """
    share = float(torch.rand((), generator=generator, dtype=torch.float64)) ** (1.0 / n)
    return on_sphere(n, radius * share, generator)


def _trained(optimizer: Optimizer) -> list[Any]:
    """The parameters that have a gradient."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _add(vector: torch.Tensor, tensors: list[torch.Tensor]) -> None:
    """Add the parts of a vector to tensors in place."""
    parts = vector.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.add_(part.view(tensor.shape).to(tensor))
