"""Options of ``hessscope spectrum``, ``hs.spectrum`` and ``hs.spectrum_series``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, MISSING, dataclass
from pathlib import Path
from typing import Any

from hessscope.options.fields import (
    MATRIX,
    OUTPUT,
    Options,
    number,
    one_of,
    option,
    texts,
    under,
    whole,
)
from hessscope.options.setting import Memory, OneCheckpoint, Outputs, Products, Setting
from hessscope.registry import BACKENDS, OPERATORS, PARTITIONS, ZERO_RULES

AUTO = "auto"


_matrix = under(MATRIX)


@dataclass(frozen=True)
class Checkpoints(Options):
    """One checkpoint or several, for commands that take either."""

    checkpoint: Any = option(
        MISSING,
        f"{OneCheckpoint.described()['checkpoint'].help} Several, a folder or a pattern: a series.",
        "MODEL...",
        argument=True,
        many=True,
    )


@dataclass(frozen=True)
class SpectrumOptions(Memory, Products, Outputs, Setting, Checkpoints):
    """What ``hessscope spectrum`` is asked for."""

    _: KW_ONLY
    backend: Any = option(
        AUTO,
        f"{', '.join((AUTO, *BACKENDS))}. exact: all eigenvalues. lanczos: random probes, with "
        "intervals. pyhessian: its top eigenvalue and trace, as a cross-check. auto: exact if it "
        "fits in memory and in 15 minutes, else lanczos.",
        "NAME",
        read=one_of((AUTO, *BACKENDS), "backend"),
    )
    steps: int = option(100, "Lanczos steps of each run.", "N", read=whole(1))
    probes: int = option(4, "Random start vectors that lanczos samples.", "N", read=whole(1))
    reorthogonalize: str = option(
        "auto",
        "full: keep the Lanczos basis orthogonal. none: keep no basis; wider intervals that are "
        "not rigorous. auto: full where a basis fits in memory or, in float32, on disk.",
        "HOW",
        read=one_of(("auto", "full", "none"), "reorthogonalize"),
    )
    target_width: float | None = option(
        None,
        "Run lanczos until each count's interval is narrower than X times the count (0.1 is 10 %), "
        "or the budget runs out.",
        "X",
        read=number(0, above=True),
    )
    budget: str | int | None = option(
        None,
        "Limit of `target_width`: a number of products (5000) or a time (30min). Default: 10000 "
        "products.",
        "N|TIME",
    )
    tolerance: float | None = option(
        None,
        "An eigenvalue counts as zero within ±TAU; with `zero_rule=relative` within ±TAU times the "
        "largest. Default: twice the noise floor (relative: n times eps).",
        "TAU",
        read=number(0),
    )
    zero_rule: Any = option(
        None,
        f"{', '.join(ZERO_RULES)}. noise_floor: twice the measured noise floor. absolute: "
        "`tolerance`. relative: `tolerance` times the largest. sankar2017: also what the code of "
        "arXiv:1706.02052 counts. Default: noise_floor, or absolute with `tolerance`.",
        "RULE",
        read=one_of(ZERO_RULES),
    )
    explain: bool = option(
        False,
        "Attribute zero eigenvalues to their causes, each verified by Hessian-vector products.",
        None,
    )
    compile: str = option(
        "auto",
        "auto: compile Hessian-vector products where the run is long enough to gain by it. always, "
        "never.",
        "WHEN",
        read=one_of(("auto", "always", "never")),
    )
    plan: str | Path | None = option(
        None,
        "Compute as this record did (strategy, batches, threads): the same numbers, bit for bit, "
        "on the same machine.",
        "RECORD",
        read=Path,
    )
    operator: Any = _matrix(
        "hessian",
        f"Matrix: {', '.join(OPERATORS)}. gauss_newton leaves out the second derivatives of the "
        "outputs; fisher takes the labels from the model, empirical_fisher from the data.",
        "NAME",
        one_of(OPERATORS),
    )
    params: str | Iterable[str] | None = _matrix(
        None,
        "Restrict to parameters matching PATTERN, such as 'layers.0.*': a diagonal block "
        "(comma-separated, or repeat the option).",
        "PATTERN",
        texts,
        many=True,
    )
    by: Any = _matrix(
        None,
        f"Also compute the spectra of the diagonal blocks by {', '.join(PARTITIONS)}, or as "
        "file.py:function divides the parameters; the share of the matrix outside of them, and how "
        "far apart their spectra are. head: attention heads, with the keys that they share.",
        "PARTS",
        lambda value: value if ":" in str(value) else one_of(PARTITIONS)(value),
    )
    by_layer: bool = _matrix(False, "The same as `by=module`: the diagonal block of each layer.")
    block_probes: int = _matrix(
        10,
        "Random vectors for each of the blocks, from which the share outside of them is estimated "
        "where not all eigenvalues are known. 0: it is not.",
        "N",
        whole(0),
    )
    eigenvectors: str | int | None = _matrix(
        None,
        "Also compute K eigenvectors, of the largest |λ|, or lowest:K, or highest:K, with "
        "residuals; they are in the record.",
        "K",
    )
    bulk: bool = _matrix(
        False,
        "Also count outliers, measure how much of the gradient lies in their space, and compare "
        "the bulk with the semicircle law.",
    )
    semicircle: bool = _matrix(
        False, "Like `bulk`, and overlay the best-fit semicircle on the `plot` figure."
    )
    save_every: float = option(
        10.0,
        "Minutes between saved states of long work; rerun the command to resume. 0 saves none.",
        "MINUTES",
        OUTPUT,
        number(0),
        decides=False,
    )
