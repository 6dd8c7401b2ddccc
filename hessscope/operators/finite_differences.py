"""The Hessian by differences of gradients, for what has no second derivative."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from hessscope.errors import AssumptionWarning, NonFiniteError, ObjectiveError, OptionError
from hessscope.linalg.lanczos import gaussian
from hessscope.objective import Term
from hessscope.objective.boundaries import watched
from hessscope.operators.assembly import Assembly
from hessscope.operators.hessian import HessianOperator
from hessscope.operators.plan import Plan
from hessscope.operators.rounding import RandomRounding
from hessscope.operators.symmetric import BlockProduct

if TYPE_CHECKING:
    from typing import Self

# Steps that are tried: the longest in terms of eps^⅓ (1 + ‖θ‖), the next longer in terms of one,
# and how many. A difference of so many times the noise is none.
_LONGEST, _RATIO, _STEPS, _SURE = 16.0, 4.0, 8, 3.0
# Numbers of a product that are kept meanwhile.
_FOLDED = 1 << 16


@dataclass(frozen=True)
class Differences:
    """The step of difference quotients, and what was measured of it, over a few unit vectors v.

    Attributes:
        step: h, in the norm of θ.
        bias: 16/15 of the largest ‖A_h v − A_{h/4} v‖, since that of central differences is in h²;
            with the rounding of both.
        noise: the largest change of A_h v in randomised arithmetic.
        kinks: there are some, so that the step is shortened where it would cross one.
    """

    step: float
    bias: float
    noise: float
    kinks: bool

    def as_dict(self) -> dict[str, Any]:
        """The form it has in records."""
        return {"way": FiniteDifferenceHessian.way, **asdict(self)}

    def __str__(self) -> str:
        """In words."""
        kinks = ", shorter at kinks" if self.kinks else ""
        return f"step {self.step:.2g}{kinks}; bias {self.bias:.1g}, noise {self.noise:.1g}"


class _Kinks(NamedTuple):
    """Whether kinks were met, and what they cannot be looked for in."""

    there: bool
    unseen: str


class FiniteDifferenceHessian(HessianOperator):
    """H = ∇²L(θ) from gradients alone: Hv ≈ (∇L(θ + hv) − ∇L(θ − hv)) / 2h for a unit vector v.

    For models whose kernels have no second derivative. The map is neither exactly linear nor
    exactly symmetric: its error is measured like rounding, and enters the noise floor δ.

    One step h serves all vectors. Eight are tried, each four times as long as the one before, on a
    random vector, on its image under A and on the unit vector of that image's largest entry. The
    error of a step is taken for its change in randomised arithmetic, ‖A_h v − A_{h/4} v‖, and what
    it is off from any shorter step beyond that one's rounding. The smallest error wins.

    Across a kink the gradient jumps, and a difference would see the jump over 2h. So where a batch
    changes a branch between θ − hv and θ + hv its step is shortened until it changes none. Kinks
    within functions with a backward pass of their own are not seen.

    Args:
        objective: what is differentiated, such as an ``EmpiricalRisk``; or a model.
        at: θ, shape (n,); default where the model stands. Of a model: its data.
        plan: how products are computed; default one vector at a time.
        memory: bytes that the process may hold; default four fifths of what is free.
        check: whether the objective is checked before the first product (``check``).
        setting: of a model: ``loss``, ``l2``, ``dtype``, … as ``EmpiricalRisk`` takes them.

    Cost: 2 gradients for a product, and as many again for each time that a kink is in the way.
    Some 100 gradients for the step.

    Raises:
        ObjectiveError: kinks are nearer to θ than rounding lets a step be short.

    Example:
        >>> from hessscope import FunctionObjective
        >>> quartic = FunctionObjective(lambda x: (x**4).sum() / 12, [1.0, 2.0])
        >>> FiniteDifferenceHessian(quartic).to_dense().round(decimals=6)
        tensor([[1., 0.],
                [0., 4.]], dtype=torch.float64)
    """

    way: ClassVar[str] = "finite_difference"

    def begin(self) -> None:
        """Refuse arithmetic in which a step is lost."""
        if self.arithmetic != self.dtype:
            name = str(self.arithmetic).removeprefix("torch.")
            raise OptionError(
                f"weights that differ by a step of differences are the same in {name}: take "
                "`dtype=float32`, or `products=exact`"
            )

    def prepare(self, term: Term, theta: torch.Tensor) -> BlockProduct:
        """Products with a term's Hessian at θ, a vector at a time."""

        def product(vectors: torch.Tensor) -> torch.Tensor:
            result = torch.zeros_like(vectors)
            for v, row in zip(vectors, result, strict=True):
                length = torch.linalg.vector_norm(v)
                if length > 0:
                    row.copy_(length * self._quotient(term, theta, v / length))
            return result

        return product

    def _quotient(self, term: Term, theta: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The difference quotient along a unit vector, over a way without a kink."""
        step, eps = self.step, torch.finfo(theta.dtype).eps
        least = eps * max(step, 8 * float(theta.abs().max()))
        while step > least:
            points = theta + step * v, theta - step * v
            (ahead, one), (behind, other) = (self._gradient(term, at) for at in points)
            if one == other:
                # θ ± hv are rounded, so the way is not exactly 2h long.
                return (ahead - behind) / ((points[0] - points[1]) @ v)
            step /= _RATIO
        narrow = theta.dtype == torch.float32
        raise ObjectiveError(
            f"the loss has kinks within {step:.1g} of the weights, and differences of gradients "
            "over a shorter way are rounding: take `products=exact`"
            + (", or `dtype=float64`, whose steps can be shorter" if narrow else "")
        )

    def _gradient(self, term: Term, at: torch.Tensor) -> tuple[torch.Tensor, bytes]:
        """A term's gradient, and on which side of its kinks it was taken."""
        point = at.detach().requires_grad_(True)
        if not self._kinks.there:
            with torch.enable_grad():
                return torch.autograd.grad(term(point), point)[0], b""
        watch = watched(self.objective, term, point)
        sides = b"".join((c.values > 0).cpu().numpy().tobytes() for c in watch.crossings)
        return torch.autograd.grad(watch.value, point)[0], sides

    def check(self) -> None:
        """Refuse what has no gradient to speak of: only first derivatives are taken.

        Cost: 2 gradients.

        Raises:
            NonFiniteError: loss or gradient is NaN or infinite.
            NonDeterministicError: two evaluations differ.
        """
        if not self._checked:
            self.objective.check(self.at)
            self._checked = True

    @cached_property
    def plan(self) -> Plan:
        """One vector at a time, and the objective's batches; or those of a given plan."""
        given = self._given_plan
        return (
            Plan(self.way, 1, None, held=False) if given is None else replace(given, way=self.way)
        )

    @cached_property
    def assembly(self) -> Assembly:
        """Every column is a product: structure takes second derivatives."""
        return Assembly((), torch.zeros(len(self.at), dtype=torch.bool), 1, 0, chain=False)

    @cached_property
    def step(self) -> float:
        """h, in the norm of θ."""
        return self.differences.step

    @cached_property
    def _kinks(self) -> _Kinks:
        """Whether there are kinks, by a pass through the data."""
        there, unseen = False, set[str]()
        for term in self.objective.terms():
            watch = watched(self.objective, term, self.at.clone().requires_grad_(True))
            there, unseen = there or bool(watch.crossings), unseen | watch.undetermined
        return _Kinks(there, ", ".join(sorted(unseen)))

    @cached_property
    def differences(self) -> Differences:
        """The step, chosen at the first use, and what was measured of it.

        Raises:
            NonFiniteError: no step gives finite gradients on either side.

        Warns:
            AssumptionWarning: there may be kinks that cannot be looked for.
        """
        self.check()
        if self._kinks.unseen:
            warnings.warn(
                "differences of gradients take the loss for smooth around the weights, and kinks "
                f"cannot be looked for in {self._kinks.unseen}",
                AssumptionWarning,
                stacklevel=2,
            )
        eps = torch.finfo(self.dtype).eps
        scale = eps ** (1 / 3) * (1.0 + float(torch.linalg.vector_norm(self.at)))
        steps = [scale * _LONGEST / _RATIO**k for k in reversed(range(_STEPS))]
        probes = self._probes(scale / _LONGEST)
        shorter: list[tuple[torch.Tensor, float]] = []
        best, least = None, math.inf
        for step in steps:
            try:
                products = self._products_by(step, probes)
                noise = _largest(products - self._products_by(step, probes, RandomRounding(0)))
            except NonFiniteError:  # so far away, it may be so
                break
            gaps = [(_largest(products - other), spread) for other, spread in shorter]
            shorter.append((products, noise))
            if not gaps or (best is not None and gaps[-1][0] == 0.0):  # both shortened alike
                continue
            # The last one shows the bias; what was seen by a much shorter step is not to be lost.
            lost = max(gap - _SURE * spread for gap, spread in gaps)
            error = noise + gaps[-1][0] + max(0.0, lost)
            if error < least:
                bias = gaps[-1][0] * _RATIO**2 / (_RATIO**2 - 1)
                least, best = error, Differences(step, bias, noise, self._kinks.there)
        if best is None:
            raise NonFiniteError(
                f"gradients are not finite at a distance of {steps[1]:.1g} from the weights, and "
                "differences over a shorter way are rounding"
            )
        return best

    def _probes(self, step: float) -> torch.Tensor:
        """Unit vectors over which errors are measured, shape (n, 3)."""
        drawn = gaussian(self.shape[0], 1, 0, dtype=self.dtype, device=self.device)
        image = self._stepped(step).apply(drawn)
        unit = torch.zeros_like(drawn)
        unit[image.abs().argmax()] = 1.0
        found = torch.cat([drawn, image if bool(image.any()) else drawn, unit], dim=1)
        return found / torch.linalg.vector_norm(found, dim=0)

    def _products_by(
        self, step: float, probes: torch.Tensor, arithmetic: RandomRounding | None = None
    ) -> torch.Tensor:
        """Products with the probes, one after the other and folded, so that many can be kept."""
        operator = self._stepped(step, arithmetic)
        return torch.stack([_folded(operator.matvec(v)) for v in probes.T])

    def _stepped(self, step: float, arithmetic: RandomRounding | None = None) -> Self:
        other = self.planned(self.plan)
        other.step = step
        if arithmetic is not None:
            other._arithmetic = arithmetic
        return other

    def moved(self, at: torch.Tensor | np.ndarray, plan: Plan | None = None) -> Self:
        """The same at another θ, by the same step."""
        other = super().moved(at, plan)
        other.differences, other._kinks = self.differences, self._kinks
        return other

    def recomputed(self) -> Self:
        """The same by half the step, in randomised arithmetic, by another batch split."""
        step = self.step
        other = super().recomputed()
        other.step = step / 2
        return other


def _folded(vector: torch.Tensor) -> torch.Tensor:
    """A shorter vector whose norm is the same on average, off by half a percent."""
    if len(vector) <= _FOLDED:
        return vector
    stream = torch.Generator().manual_seed(0)
    signs = torch.randint(2, vector.shape, generator=stream, dtype=torch.int8).to(vector.device)
    vector = torch.nn.functional.pad(vector * (2 * signs - 1), (0, -len(vector) % _FOLDED))
    return vector.view(-1, _FOLDED).sum(0)


def _largest(rows: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(rows.double(), dim=1).max())
