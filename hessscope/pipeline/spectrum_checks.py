"""Checks of the options of a spectrum, before anything is read."""

from __future__ import annotations

from typing import Any

from hessscope.backends import EigenvectorBackend, LanczosBackend
from hessscope.backends.backend import zero_rule_of
from hessscope.errors import OptionError
from hessscope.operators import HessianOperator
from hessscope.options.fields import plain
from hessscope.options.spectrum import AUTO, SpectrumOptions
from hessscope.pipeline.outputs import check_outputs
from hessscope.registry import BACKENDS, OPERATORS, PRODUCTS

# What takes counts or a density.
_OF_COUNTS = ("by", "by_layer", "bulk", "semicircle", "explain", "plot")


def check_options(options: SpectrumOptions) -> None:
    """Refuse what cannot be done or written, before anything is read or computed.

    Raises:
        OptionError: an option means nothing or not with the others, or an output exists.
        RecordError: an output cannot be written.
    """
    if isinstance(options.checkpoint, (list, tuple)):
        raise OptionError("`checkpoint` is several: hs.spectrum_series takes them")
    kind = OPERATORS.find(options.operator)
    if PRODUCTS.find(options.products) is not HessianOperator:
        _check_products(options, kind)
    if options.eigenvectors is not None:
        EigenvectorBackend.parse(options.eigenvectors)
    LanczosBackend.from_options(options)  # whatever is chosen, its options have to mean something
    rule = zero_rule_of(options)
    if options.backend != AUTO:
        _check_backend(options, kind.name, rounded=rule.rounded)
    if options.explain and not is_whole_hessian(options):
        raise OptionError(
            "`explain` attributes the zeros of the whole Hessian: leave out `operator` and `params`"
        )
    if options.dtype == "bfloat16":
        _check_narrow(options)
    if options.by_layer and options.by not in (None, "module"):
        raise OptionError("`by_layer` is `by=module`: leave out one of the two")
    if options.semicircle and options.plot is None:
        raise OptionError(
            "`semicircle` draws over a figure, and there is none: give `plot=FILE`, or take `bulk` "
            "for the comparison in numbers"
        )
    inputs = (
        (options.checkpoint, "the checkpoint"),
        (options.data, "the data"),
        (options.plan, "the record whose plan is repeated"),
    )
    check_outputs(options, inputs)


def is_whole_hessian(options: SpectrumOptions) -> bool:
    """Whether the matrix is the Hessian over all parameters."""
    return OPERATORS.find(options.operator) is HessianOperator and not options.params


def check_matrix(backend: Any) -> None:
    """Refuse a backend without the matrix, beside a zero rule that counts its rows."""
    if not backend.matrix:
        raise OptionError(
            f"`zero_rule=sankar2017` counts the rows of the matrix, and the backend is "
            f"{backend.name}: take `backend=exact`"
        )


def _check_products(options: SpectrumOptions, kind: Any) -> None:
    """Refuse what takes second derivatives, beside products without any."""
    way = f"`products={plain(options.products)}`"
    if kind is not HessianOperator:
        raise OptionError(
            f"{way} are differences of the loss's gradient, which make the Hessian, and the "
            f"{kind.name} matrix is another one: leave out `operator`, or take `products=exact`"
        )
    if options.explain:
        raise OptionError(
            f"`explain` looks for causes by second derivatives, and {way} takes none: leave out "
            "one of them"
        )
    if options.compile == "always":
        raise OptionError(f"`compile=always` is for exact products: leave it out, or {way}")
    if options.backend != AUTO and BACKENDS.find(options.backend).operators:
        raise OptionError(
            f"the backend {plain(options.backend)} makes products of its own, which are exact: "
            f"leave out {way}, or take `backend=exact` or `backend=lanczos`"
        )


def _check_narrow(options: SpectrumOptions) -> None:
    """Refuse what takes counts or small steps, beside arithmetic in bfloat16."""
    for name in (*_OF_COUNTS, "target_width"):
        if getattr(options, name):
            raise OptionError(
                f"`dtype=bfloat16` leaves no counts: leave out `{name}`, or take `dtype=float32`"
            )
    if options.backend != AUTO and BACKENDS.find(options.backend).operators:
        raise OptionError(
            f"the backend {plain(options.backend)} measures no noise floor, and `dtype=bfloat16` "
            "makes one needed: take `backend=exact` or `backend=lanczos`"
        )


def _check_backend(options: SpectrumOptions, operator: str, *, rounded: bool) -> None:
    backend = BACKENDS.find(options.backend)
    if rounded:
        check_matrix(backend)
    if backend.operators and operator not in backend.operators:
        raise OptionError(
            f"the {backend.name} backend knows only {', '.join(backend.operators)}: for "
            f"`operator={operator}` take `backend=exact` or `backend=lanczos`"
        )
    for name in _OF_COUNTS:
        if not backend.counts and getattr(options, name):
            raise OptionError(
                f"the {backend.name} backend gives neither counts nor a density: leave out "
                f"`{name}`, or take `backend=exact` or `backend=lanczos`"
            )
    if options.target_width is not None and not backend.sampled:
        raise OptionError(
            f"`target_width` is for sampled counts, and the backend is {backend.name}: leave it "
            "out, or take `backend=lanczos`"
        )
