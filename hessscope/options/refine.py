"""Options of ``hessscope refine``, ``hs.refine_checkpoint`` and ``hs.refine``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.options.data import Seed
from hessscope.options.fields import (
    OUTPUT,
    Options,
    nonnegative,
    number,
    one_of,
    option,
    under,
    whole,
)
from hessscope.options.setting import Memory, OneCheckpoint, Outputs, Products, Setting
from hessscope.registry import GLOBALISATIONS, METHODS

SEARCH, END = "Search", "Spectrum at the end"
_search, _end, _output = under(SEARCH), under(END), under(OUTPUT, decides=False)
AUTO = "auto"
#: Parameters up to which "auto" takes steps by the exact Hessian: they take seconds then.
EXACT_UP_TO = 4000


@dataclass(frozen=True)
class SearchOptions(Memory, Products, Seed):
    """How a critical point is searched for; what is None is the method's own default."""

    method: Any = _search(
        None,
        f"{', '.join((AUTO, *METHODS))}. newton, damped_newton and newton_mr go to the critical "
        "point nearby, of any index; sfn and krylov_sfn go down and leave saddles. auto, the "
        f"default: newton up to {EXACT_UP_TO:,} parameters, newton_mr (matrix-free) above.",
        "NAME",
        one_of((AUTO, *METHODS), "method"),
    )
    _: KW_ONLY
    globalisation: Any = _search(
        None,
        f"{', '.join(GLOBALISATIONS)}. How steps are kept from going too far. Default: the "
        "method's own.",
        "NAME",
        one_of(GLOBALISATIONS),
    )
    merit: str | None = _search(
        None,
        "What steps make smaller: gradient (½‖∇L‖²) or loss. Default: the method's own.",
        "NAME",
        one_of(("gradient", "loss"), "merit"),
    )
    max_iterations: int | None = _search(
        None,
        "Maximum number of steps, those of a resumed search included. Default: the method's own.",
        "N",
        whole(0),
    )
    gradient_tolerance: float | None = _search(
        None,
        "Gradient norm that counts as zero. Default: its rounding floor, measured.",
        "X",
        number(0),
    )
    krylov_steps: int | None = _search(
        None,
        "Maximum Hessian-vector products per step (krylov_sfn, newton_mr).",
        "N",
        whole(2),
    )
    inner_steps: int | None = _search(
        None,
        "Steps taken before the curvature is recomputed, for methods whose steps are damped.",
        "N",
        whole(1),
    )
    dampings: tuple[float, ...] = _search(
        (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0),
        "Dampings that `globalisation=damping_search` tries at each step.",
        "LIST",
        nonnegative,
    )
    fraction: float = _search(
        1.0,
        "Fraction of the method's step that `globalisation=fixed` takes.",
        "X",
        number(0, above=True),
    )
    backend: Any = _end(
        None,
        "auto (default), exact or lanczos. The full certificate takes exact.",
        "NAME",
        one_of((AUTO, "exact", "lanczos"), "backend"),
    )
    steps: int | None = _end(None, "Lanczos steps of each probe. Default: 300.", "N", whole(1))
    probes: int | None = _end(None, "Random start vectors of lanczos. Default: 4.", "N", whole(1))
    tolerance: float | None = _end(
        None,
        "An eigenvalue counts as zero within ±TAU. Default: twice the noise floor, or what the "
        "distance to the critical point asks for, if that is more.",
        "TAU",
        number(0),
    )
    smooth: bool = _end(
        False,
        "State that the loss is smooth where kinks cannot be looked for (custom functions, values "
        "that are read). The certificate names it as an assumption.",
    )


@dataclass(frozen=True, kw_only=True)
class ObservedSearch(SearchOptions):
    """A search in this process."""

    observer: Callable[..., object] | None = option(
        None,
        "Called with the SearchState after each step; the search stops if it returns True.",
        None,
        None,
        decides=False,
    )


@dataclass(frozen=True)
class OneObjective(Options):
    """The function, for searches without files."""

    objective: Any = option(
        MISSING, "L, such as an EmpiricalRisk or a FunctionObjective.", None, None
    )


@dataclass(frozen=True)
class ObjectiveSearch(ObservedSearch, OneObjective):
    """What ``hs.refine`` is asked for."""

    _: KW_ONLY
    start: Any = option(
        None, "Where to begin, shape (n,). Default: where the objective stands.", None, None
    )
    resume: Any = option(None, "SearchState to continue from, instead of a start.", None, None)
    symmetries: Callable[..., Any] | None = option(
        None,
        "Tangents of symmetries of L, θ to shape (n, m), for the certificate of a singular "
        "Hessian; verified before they are used. Default: those of a network by its modules and "
        "its data.",
        None,
        None,
    )
    check: bool = option(
        True, "Check L and its derivatives first (HessianOperator.check).", None, None
    )


@dataclass(frozen=True)
class RefineOptions(ObservedSearch, Outputs, Setting, OneCheckpoint):
    """What ``hessscope refine`` is asked for."""

    _: KW_ONLY
    resume: str | Path | None = _search(
        None,
        "Continue another search, from its record or from its .partial folder. Search options that "
        "are not given stay as they were.",
        "FILE",
        Path,
    )
    best_loss: float | None = _end(
        None,
        "Lowest known loss, from which δ of a (κ, ε, ρ, δ)-good saddle is measured.",
        "X",
        float,
    )
    save: str | Path | None = _output(
        None,
        "Refined checkpoint, in the format of MODEL. Default on the command line: "
        "MODEL.refined.pt in this folder, numbered like the record.",
        "FILE",
        Path,
    )
    keep_dtype: bool = _output(
        False,
        "Write the weights in the data types of MODEL, rounded. Default: in the type in which "
        "they were computed, since float32 cannot hold a critical point.",
    )
