"""Which matrix is looked at, and how closely: what a request may ask for beside the spectrum."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessscope import backends
from hessscope.criticality import measure_criticality, measure_gradient
from hessscope.errors import (
    HessscopeWarning,
    MemoryLimitError,
    OptionError,
    SolverError,
)
from hessscope.objective import EmpiricalRisk
from hessscope.operators import HessianOperator, ObjectiveOperator
from hessscope.pipeline.layers import LayerSpectrum
from hessscope.progress import Progress, silent
from hessscope.registry import BACKENDS, OPERATORS
from hessscope.spectra import BulkSplit, Criticality, Eigenpairs, Inertia, Result, classify


@dataclass(frozen=True)
class View:
    """What to look at.

    Attributes:
        operator: "hessian", "gauss_newton", "fisher" or "empirical_fisher".
        params: patterns of parameter names; empty for all parameters.
        by_layer: also the spectrum of each module's diagonal block.
        eigenvectors: how many at which end, as ``EigenvectorBackend.parse`` takes it.
        bulk: also the split into outliers and bulk.
        semicircle: also draw the semicircle law over the figure.
    """

    operator: str = "hessian"
    params: tuple[str, ...] = ()
    by_layer: bool = False
    eigenvectors: str | int | None = None
    bulk: bool = False
    semicircle: bool = False

    @classmethod
    def of(
        cls,
        operator: str = "hessian",
        params: str | Iterable[str] | None = None,
        **others: Any,
    ) -> View:
        """Take patterns as one text, as several, or as none."""
        texts = (params,) if isinstance(params, str) else tuple(params or ())
        return cls(operator, texts, **others)

    def check(self, backend: str) -> None:
        """Refuse what cannot be done, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or not with this backend.
        """
        OPERATORS.name_of(self.operator)
        if self.eigenvectors is not None:
            backends.EigenvectorBackend.parse(self.eigenvectors)
        kind = None if backend == "auto" else BACKENDS[backend]
        if kind is None:
            return
        if kind.operators and self.kind.name not in kind.operators:
            raise OptionError(
                f"the {backend} backend knows only {', '.join(kind.operators)}: for "
                f"`operator={self.operator}` take `backend=exact` or `backend=lanczos`"
            )
        for asked, option in (
            (self.by_layer, "by_layer"),
            (self.bulk, "bulk"),
            (self.semicircle, "semicircle"),
        ):
            if asked and not kind.counts:
                raise OptionError(
                    f"the {backend} backend gives neither counts nor a density: for `{option}` "
                    "take `backend=exact` or `backend=lanczos`"
                )

    def risk(self, risk: EmpiricalRisk) -> EmpiricalRisk:
        """The risk as a function of the parameters that are looked at."""
        return risk.restricted(self.params) if self.params else risk

    @property
    def whole_hessian(self) -> bool:
        """It is the Hessian over all parameters."""
        return self.kind is HessianOperator and not self.params

    @property
    def kind(self) -> type[ObjectiveOperator]:
        """The matrix."""
        kind: type[ObjectiveOperator] = OPERATORS.find(self.operator)
        return kind

    def eigenpairs(
        self,
        operator: ObjectiveOperator,
        result: Result,
        seed: int,
        memory: int | None,
        progress: Progress = silent,
    ) -> Eigenpairs | None:
        """The eigenvectors that are asked for; a warning in their place where that fails.

        Args:
            operator: the matrix.
            result: its spectrum; where all eigenvalues are known, the pairs are checked by them.
            seed: of the start vector.
            memory: bytes that the process may hold.
            progress: told of the products.
        """
        if self.eigenvectors is None:
            return None
        backend = backends.EigenvectorBackend.parse(self.eigenvectors, seed=seed, memory=memory)
        try:
            pairs = backend.solve(operator, progress)
        except (SolverError, MemoryLimitError) as error:
            # The spectrum that was computed before is not to be lost for this.
            warnings.warn(f"no eigenvectors: {error}", HessscopeWarning, stacklevel=2)
            return None
        if result.eigenvalues is not None:
            off = pairs.farthest_from(result.eigenvalues)
            if off > float(pairs.residuals.max()) + result.noise_floor.total:
                warnings.warn(
                    f"the eigenvalues found with their vectors are up to {off:.3g} from those of "
                    "the exact spectrum: one or more were passed over",
                    HessscopeWarning,
                    stacklevel=2,
                )
        return pairs

    def judge(
        self, operator: ObjectiveOperator, risk: EmpiricalRisk, norm: float, inertia: Inertia | None
    ) -> tuple[Criticality, str]:
        """The evidence for or against ∇L = 0, and what kind of point it is, as far as can be said.

        Args:
            operator: the matrix that was solved.
            risk: L as a function of all parameters.
            norm: ‖·‖₂ of the matrix.
            inertia: its counts; None where there are none.
        """
        tau = inertia.tolerance if inertia else 1e-12 * norm
        if isinstance(operator, HessianOperator) and not self.params:
            zeros = inertia.zero if inertia else None
            criticality = measure_criticality(operator, norm, tau, zeros).criticality
        else:
            criticality = measure_gradient(risk, risk.parameters, norm)
        if not isinstance(operator, HessianOperator):
            return criticality, "not classified (that takes the Hessian)"
        if self.params:
            return criticality, "not classified (that takes all parameters)"
        if inertia is not None:
            return criticality, classify(inertia, criticality)
        if criticality.critical:
            return criticality, ("critical point, not classified (the backend counts nothing)")
        norm_text = f"{criticality.gradient_norm:.3g}"
        return criticality, f"not a critical point (gradient norm {norm_text})"


@dataclass(frozen=True)
class Details:
    """What was found beside the spectrum itself.

    Attributes:
        view: what was looked at.
        parameter_names: of the parameters that the matrix belongs to, in the order of θ.
        layers: the diagonal blocks, where they were asked for.
        eigenpairs: some eigenvectors, where they were asked for.
        bulk: outliers and bulk, where they were asked for.
    """

    view: View
    parameter_names: tuple[str, ...]
    layers: tuple[LayerSpectrum, ...] = ()
    eigenpairs: Eigenpairs | None = None
    bulk: BulkSplit | None = None

    def as_dict(self) -> dict[str, Any]:
        """Its part of the JSON object."""
        return {
            "operator": self.view.kind.name,
            "params": list(self.view.params) or None,
            "layers": [layer.as_dict() for layer in self.layers] or None,
            "bulk": None if self.bulk is None else self.bulk.as_dict(),
            **(self.eigenpairs.as_dict() if self.eigenpairs else {}),
        }

    def attributes(self) -> dict[str, Any]:
        """The same as attributes of a record, which have no lists of objects."""
        layers = {layer.name: layer.as_dict() for layer in self.layers}
        return {
            **self.as_dict(),
            "layers": layers or None,
            "parameter_names": list(self.parameter_names),
        }

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Arrays of a record, beside those of the spectrum."""
        arrays = {name: a for layer in self.layers for name, a in layer.arrays().items()}
        return {**arrays, **(self.eigenpairs.arrays() if self.eigenpairs else {})}
