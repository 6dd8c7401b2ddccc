"""A spectrum as tables on the terminal."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hessscope.degeneracy import DegeneracyAttribution
from hessscope.operators import Differences, HessianOperator
from hessscope.pipeline import SpectrumReport
from hessscope.registry import OPERATORS
from hessscope.spectra import BulkSplit, Eigenpairs, Inertia, PublishedCounts, Result
from hessscope_cli.layout import (
    add_data,
    add_fact,
    add_loss,
    counts_table,
    facts_table,
    plain_table,
    verdict_table,
)

_WITHIN = (
    "±: an eigenvalue lies within this. That none lies beyond λ min and λ max is all but certain, "
    "not proven."
)
_ENDS = {"largest": "of largest |λ|", "lowest": "from below", "highest": "from above"}


def tables(report: SpectrumReport, *, verbose: bool, sweep: bool = False) -> list[RenderableType]:
    """A spectrum: setting, extremes, counts with their intervals, and what kind of point it is."""
    result, inertia = report.result, report.inertia
    parts: list[RenderableType] = [_facts(report, verbose=verbose)]
    if inertia is not None:
        parts.append(counts_table(inertia, report.published))
        if report.published is not None:
            parts.append(Text(_published(report.published), style="dim"))
    parts.append(verdict_table(report.classification, critical=report.criticality.critical))
    if inertia is not None and len(report.sweep) > 1:
        parts.append(_sweep(report.sweep if sweep else _decades(report.sweep, inertia), inertia))
    if inertia is not None and report.gap is not None:
        words = report.gap.in_words()
        if report.gap.gap.found and inertia.tolerance not in report.gap.gap:
            words += f"; τ = {inertia.tolerance:.2g} lies outside"
        parts.append(Text(words[0].upper() + words[1:]))
    if report.causes is not None:
        parts += _causes(report.causes)
    parts += [Text(remark, style="yellow") for remark in result.remarks()]
    if inertia is not None and result.eigenvalues is None and _is_wide(inertia):
        parts.append(Text(_how_to_narrow(report, inertia), style="yellow"))
    if report.layers:
        parts += _parts(report)
    if report.bulk is not None:
        parts.append(_bulk(report.bulk))
    if report.eigenpairs is not None:
        parts.append(_eigenpairs(report.eigenpairs))
    return parts


def _facts(report: SpectrumReport, *, verbose: bool) -> Table:
    """What was looked at, how it was computed, and the extremes."""
    known, result, inertia, facts = report.as_dict(), report.result, report.inertia, facts_table()
    matrix = OPERATORS.find(report.options.operator)
    hessian = matrix is HessianOperator
    add_fact(facts, "checkpoint", known["checkpoint"], known["architecture"])
    add_data(facts, known)
    add_loss(facts, known)
    floor = f"rounding floor {report.criticality.gradient_floor:.2g}"
    add_fact(facts, "gradient norm", f"{report.criticality.gradient_norm:.4g}", floor)
    if not hessian:
        add_fact(facts, "matrix", matrix.description)
    products = f"{result.hvps:,} {'Hessian-vector products' if hessian else 'products'}"
    setting = f"{report.backend}, {result.dtype}, {known['device']}"
    add_fact(facts, "backend", setting, f"{products}, {report.seconds:.1f} s")
    if measured := {name: x for name, x in known["products"].items() if name != "way"}:
        add_fact(facts, "products", "differences of gradients", str(Differences(**measured)))
    if verbose:
        add_fact(facts, "", report.choice)
        add_fact(facts, "", ", ".join(f"{k} {v}" for k, v in report.plan.items()))
    facts.add_row()
    part = [f"of {', '.join(known['params'])}"] if known["params"] else []
    add_fact(facts, "parameters n", f"{result.size:,}", *part)
    for row in result.rows():
        add_fact(facts, *row)
    if report.noise_floor is not None:
        add_fact(facts, "noise floor δ", f"{report.noise_floor:.2g}", "of each eigenvalue")
    if inertia is not None:
        add_fact(facts, "tolerance τ", f"{inertia.tolerance:.2g}", report.zero_rule.source)
    return facts


def _bulk(split: BulkSplit) -> Table:
    """Outliers against classes, the gradient's place, and what may be said of the bulk."""
    facts, outliers = facts_table(), split.outliers
    classes = "" if split.classes is None else f"{split.classes} classes; "
    if outliers.agreed is None:
        count = f"{outliers.by_gap} or {outliers.by_edge}: two rules differ"
    else:
        count = str(outliers.agreed)
    ratios = f"ratio {outliers.gap_ratio:.3g}, next {outliers.second_ratio:.3g}"
    rules = f"widest gap {outliers.by_gap}, {ratios}; edge {outliers.by_edge}"
    add_fact(facts, "outliers", count, f"{classes}{rules}; of {outliers.searched} searched")
    if split.alignment is not None:
        shares = zip(split.alignment.numbers, split.alignment.shares, strict=True)
        text = ", ".join(f"{share:.1%} (k = {k})" for k, share in shares)
        by_chance = f"at random k/n = {split.alignment.numbers[-1] / split.alignment.size:.1g}"
        add_fact(facts, "gradient in", f"the k highest: {text}", by_chance)
    if split.semicircle is not None:
        law = split.semicircle.law
        circle = f"centre {law.centre:.3g}, radius {law.radius:.3g}"
        add_fact(facts, "semicircle", split.semicircle.in_words(), f"best: {circle}")
    return facts


def _eigenpairs(pairs: Eigenpairs) -> Table:
    """Each eigenvalue whose vector is in the record, with its residual."""
    table = plain_table("", f"eigenvectors, {_ENDS[pairs.which]}: λ", "‖Av − λv‖")
    for k, (value, residual) in enumerate(zip(pairs.values, pairs.residuals, strict=True), 1):
        table.add_row(str(k), f"{value:.8g}", f"{residual:.2g}")
    return table


# Larger tables of distances are for a record.
_MOST_PARTS = 8


def _parts(report: SpectrumReport) -> list[RenderableType]:
    """A line for each part's block: counts, extremes and trace; and how the blocks differ."""
    by = report.options.by
    title = "layer" if by is None else by if isinstance(by, str) and ":" not in by else "part"
    titles = (title, "n", "index", "degeneracy", "tolerance τ", "λ min", "λ max", "trace")
    table = plain_table(*titles, left=(title,))
    for layer in report.layers:
        inertia, result = layer.inertia, layer.result
        counts = (str(inertia.negative), str(inertia.zero), f"{inertia.tolerance:.2g}")
        table.add_row(Text(layer.name), f"{result.size:,}", *counts, *_ranges(result))
    shown: list[RenderableType] = [table]
    if any(layer.result.eigenvalues is None for layer in report.layers):
        shown.append(Text(_WITHIN, style="dim"))
    facts, share, apart = facts_table(), report.parts.off_block, report.parts.distances
    if share is not None:
        how = f"{share.hvps:,} products, 95 % interval" if share.hvps else "by their eigenvalues"
        add_fact(facts, "outside blocks", f"{share.share} of ‖A‖²", how)
    if apart is not None:
        scale = "Jensen–Shannon, 0 alike to 1 apart; mean over all pairs"
        add_fact(facts, "spectra apart", str(apart.mean), scale)
    shown.append(facts)
    if apart is not None and 2 < len(apart.names) <= _MOST_PARTS:
        distances = plain_table(
            "distance", *map(str, range(1, len(apart.names) + 1)), left=("distance",)
        )
        for k, (name, row) in enumerate(zip(apart.names, apart.values, strict=True), 1):
            distances.add_row(Text(f"{k} {name}"), *(f"{x:.2f}" for x in row[:k]))
        shown.append(distances)
    return shown


def _ranges(result: Result) -> list[str]:
    """λ min, λ max and trace with what is known of them: their errors, where these are seen."""
    if result.eigenvalues is not None:
        return [f"{x:.4g}" for x in (result.lambda_min, result.lambda_max, result.trace)]
    trace = result.trace_estimate()
    return [
        f"{result.lambda_min:.4g} ± {result.lambda_min_residual:.1g}",
        f"{result.lambda_max:.4g} ± {result.lambda_max_residual:.1g}",
        f"{trace.value:.4g} [{trace.lower:.4g}, {trace.upper:.4g}]",
    ]


def _causes(found: DegeneracyAttribution) -> list[RenderableType]:
    """Null directions by their causes, what is left, and what the columns mean."""
    why = f"why zero (|λ| ≤ {found.tolerance:.2g})"
    table = plain_table(why, "directions", "counted", "‖HV‖", "‖HX+(DX)ᵀg‖", left=(why,))
    for cause in found.causes:
        what = Text(cause.name)
        what.append(f"\n  {cause.description}", style="dim")
        identity = "" if cause.identity == cause.residual else f"{cause.identity:.1e}"
        table.add_row(
            what,
            f"{cause.directions:,}",
            Text(f"{cause.new:,}", style="bold" if cause.new else "dim"),
            f"{cause.residual:.1e}",
            identity,
        )
    explained = f"{found.explained:,}"
    table.add_row(Text("explained"), "", Text(explained, style="bold"), f"{found.residual:.1e}")
    table.add_row(Text("unexplained"), "", str(found.unexplained))
    return [table, *(Text(note, style="yellow") for note in found.notes)]


def _published(counts: PublishedCounts) -> str:
    """What the column of the other rule leaves to be said."""
    return (
        "sankar2017: the Hessian stored in float32, no tolerance; zero means exactly 0.0, an "
        f"exactly zero row.\nIts code's second number of zeros, #(λ = 0) + #(λ min/2 < λ < 0): "
        f"{counts.one_sided_zero:,}. The sign of {counts.undecided:,} eigenvalues was decided by "
        "the solver's rounding alone."
    )


def _sweep(rows: tuple[Inertia, ...], asked: Inertia) -> Table:
    """Counts at several tolerances, the one asked for in bold; intervals where they are open."""
    table = plain_table("tolerance τ", "index", "degeneracy")
    for inertia in rows:
        counts = (str(inertia.negative), str(inertia.zero))
        style = "bold" if inertia.tolerance == asked.tolerance else ""
        table.add_row(f"{inertia.tolerance:.2g}", *counts, style=style)
    return table


def _decades(sweep: tuple[Inertia, ...], asked: Inertia, most: int = 5) -> tuple[Inertia, ...]:
    """The tolerance asked for and a few powers of ten above it, the largest among them."""
    above = [
        row
        for row in sweep
        if row.tolerance > asked.tolerance
        and math.isclose(row.tolerance, 10.0 ** round(math.log10(row.tolerance)), rel_tol=1e-6)
    ]
    stride = max(1, math.ceil(len(above) / most))
    return (asked, *above[::-stride][::-1])


def _is_wide(inertia: Inertia) -> bool:
    return not (inertia.usable(inertia.negative) and inertia.usable(inertia.zero))


def _how_to_narrow(report: SpectrumReport, inertia: Inertia) -> str:
    """What helps, by what the sweep shows: a larger tolerance, else more work."""
    above = (row for row in report.sweep if row.tolerance > inertia.tolerance)
    narrow = next((row for row in above if not _is_wide(row)), None)
    larger = f" At --tolerance {narrow.tolerance:g} they are narrow." if narrow else ""
    return (
        "The intervals are wide: so few steps cannot tell zero from small at this tolerance."
        f"{larger} More --steps and --probes narrow them; --backend exact has none to speak of."
    )
