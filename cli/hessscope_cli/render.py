"""Results as tables on the terminal."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hessscope.objective import Evaluation
from hessscope.operators import HessianOperator
from hessscope.pipeline import Inspection, LayerSpectrum, RefinementReport, SpectrumReport
from hessscope.refinement.saddles import SaddleConstants
from hessscope.spectra import (
    BulkSplit,
    CountInterval,
    Eigenpairs,
    Inertia,
    PublishedCounts,
    Result,
    WidestGap,
)
from hessscope_cli import degeneracy
from hessscope_cli.layout import add_fact as _add
from hessscope_cli.layout import facts_table as _facts
from hessscope_cli.layout import plain_table as _table
from hessscope_cli.wording import in_flags

_WITHIN = (
    "±: an eigenvalue lies within this. That none lies beyond λ min and λ max is all but certain, "
    "not proven."
)

_ENDS = {"largest": "of largest |λ|", "lowest": "from below", "highest": "from above"}


def spectrum(report: SpectrumReport, *, verbose: bool, sweep: bool = False) -> list[RenderableType]:
    """A spectrum: setting, extremes, counts with their intervals, and what kind of point it is."""
    opened, result, inertia = report.opened, report.result, report.inertia
    checkpoint, critical = opened.checkpoint, report.criticality
    facts = _facts()
    _add(facts, "checkpoint", str(checkpoint.path), checkpoint.architecture)
    data = opened.data
    _add(facts, "data", f"{data.name} {data.split}, {len(data):,} examples", *data.preprocessing)
    _add_loss(facts, opened.risk.loss.name, opened.risk.l2, report.loss, report.accuracy)
    floor = f"rounding floor {critical.gradient_floor:.2g}"
    _add(facts, "gradient norm", f"{critical.gradient_norm:.4g}", floor)
    matrix = report.details.view.kind
    if matrix is not HessianOperator:
        _add(facts, "matrix", matrix.description)
    setting = f"{report.backend}, {result.dtype}, {opened.risk.device}"
    effort = f"{result.hvps:,} {_products(report)}, {report.seconds:.1f} s"
    _add(facts, "backend", setting, effort)
    if verbose:
        _add(facts, "", report.choice)
        _add(facts, "", ", ".join(f"{k} {v}" for k, v in report.plan.items()))
    facts.add_row()
    params = report.details.view.params
    _add(facts, "parameters n", f"{result.size:,}", *([f"of {', '.join(params)}"] * bool(params)))
    for row in result.rows():
        _add(facts, *row)
    parts: list[RenderableType] = [facts]
    if inertia is not None:
        _add(facts, "noise floor δ", f"{inertia.noise_floor:.2g}", "of each eigenvalue")
        _add(facts, "tolerance τ", f"{inertia.tolerance:.2g}", report.zero_rule.source)
        parts.append(_counts(inertia, report.published))
        if report.published is not None:
            parts.append(Text(_published(report.published), style="dim"))
    verdict = _facts()
    style = "bold green" if critical.critical else "bold yellow"
    verdict.add_row("point", Text(report.classification, style=style))
    parts.append(verdict)
    if inertia is not None and len(report.sweep) > 1:
        parts.append(_sweep(report.sweep if sweep else _decades(report.sweep, inertia), inertia))
    if inertia is not None and report.gap is not None:
        parts.append(Text(_gap(report.gap, inertia.tolerance)))
    if report.causes is not None:
        parts += degeneracy.causes(report.causes)
    parts += [Text(remark, style="yellow") for remark in result.remarks()]
    if inertia is not None and result.eigenvalues is None and _is_wide(inertia):
        parts.append(Text(_how_to_narrow(report), style="yellow"))
    if report.details.layers:
        parts.append(_layers(report.details.layers))
        if any(layer.result.eigenvalues is None for layer in report.details.layers):
            parts.append(Text(_WITHIN, style="dim"))
    if report.details.bulk is not None:
        parts.append(_bulk(report.details.bulk))
    if report.details.eigenpairs is not None:
        parts.append(_eigenpairs(report.details.eigenpairs))
    return parts


def _bulk(split: BulkSplit) -> Table:
    """Outliers against classes, the gradient's place, and what may be said of the bulk."""
    facts, outliers = _facts(), split.outliers
    classes = "" if split.classes is None else f"{split.classes} classes; "
    if outliers.agreed is None:
        count = f"{outliers.by_gap} or {outliers.by_edge}: two rules differ"
    else:
        count = str(outliers.agreed)
    ratios = f"ratio {outliers.gap_ratio:.3g}, next {outliers.second_ratio:.3g}"
    rules = f"widest gap {outliers.by_gap}, {ratios}; edge {outliers.by_edge}"
    _add(facts, "outliers", count, f"{classes}{rules}; of {outliers.searched} searched")
    if split.alignment is not None:
        shares = zip(split.alignment.numbers, split.alignment.shares, strict=True)
        text = ", ".join(f"{share:.1%} (k = {k})" for k, share in shares)
        by_chance = f"at random k/n = {split.alignment.numbers[-1] / split.alignment.size:.1g}"
        _add(facts, "gradient in", f"the k highest: {text}", by_chance)
    if split.semicircle is not None:
        law = split.semicircle.law
        circle = f"centre {law.centre:.3g}, radius {law.radius:.3g}"
        _add(facts, "semicircle", split.semicircle.in_words(), f"best: {circle}")
    return facts


def _eigenpairs(pairs: Eigenpairs) -> Table:
    """Each eigenvalue whose vector is in the record, with its residual."""
    table = _table()
    table.add_column("", justify="right")
    table.add_column(f"eigenvectors, {_ENDS[pairs.which]}: λ", justify="right")
    table.add_column("‖Av − λv‖", justify="right")
    for k, (value, residual) in enumerate(zip(pairs.values, pairs.residuals, strict=True), 1):
        table.add_row(str(k), f"{value:.8g}", f"{residual:.2g}")
    return table


def _products(report: SpectrumReport) -> str:
    hessian = report.details.view.kind is HessianOperator
    return "Hessian-vector products" if hessian else "products"


def _layers(layers: tuple[LayerSpectrum, ...]) -> Table:
    """A line for each layer: its block's counts, extremes and trace, with their intervals."""
    table = _table()
    table.add_column("layer", overflow="fold")
    for name in ("n", "index", "degeneracy", "tolerance τ", "λ min", "λ max", "trace"):
        table.add_column(name, justify="right")
    for layer in layers:
        inertia, result = layer.inertia, layer.result
        counts = (str(inertia.negative), str(inertia.zero), f"{inertia.tolerance:.2g}")
        table.add_row(Text(layer.name), f"{result.size:,}", *counts, *_ranges(result))
    return table


def _ranges(result: Result) -> tuple[str, str, str]:
    """λ min, λ max and trace with what is known of them: their errors, where these are seen."""
    if result.eigenvalues is not None:
        return tuple(f"{x:.4g}" for x in (result.lambda_min, result.lambda_max, result.trace))  # type: ignore[return-value]
    trace = result.trace_estimate()
    return (
        f"{result.lambda_min:.4g} ± {result.lambda_min_residual:.1g}",
        f"{result.lambda_max:.4g} ± {result.lambda_max_residual:.1g}",
        f"{trace.value:.4g} [{trace.lower:.4g}, {trace.upper:.4g}]",
    )


def inspection(result: Inspection) -> list[RenderableType]:
    """What is in a checkpoint."""
    checkpoint, opened = result.checkpoint, result.opened
    facts = _facts()
    _add(facts, "checkpoint", str(checkpoint.path))
    _add(facts, "format", checkpoint.format)
    source = [checkpoint.architecture_source]
    if checkpoint.activation_source is not None:
        source.append(f"activation {checkpoint.activation_source}")
    _add(facts, "architecture", checkpoint.architecture, *source)
    _add(facts, "parameters n", f"{checkpoint.parameters:,}")
    if checkpoint.buffers:
        names = _shortened(", ".join(buffer.name for buffer in checkpoint.buffers))
        _add(facts, "buffers", f"{len(checkpoint.buffers):,}", f"not trained: {names}")
    for key, value in checkpoint.metadata.items():
        _add(facts, key, _shortened(str(value)))
    if opened is not None and result.loss is not None:
        facts.add_row()
        data = opened.data
        examples = f"{data.name} {data.split}, {len(data):,} examples"
        _add(facts, "data", examples, *data.preprocessing)
        _add_loss(facts, opened.risk.loss.name, opened.risk.l2, result.loss, result.accuracy)
        _add(facts, "gradient norm", f"{result.gradient_norm:.4g}")
    layers = _table()
    layers.add_column("parameter", overflow="fold")
    layers.add_column("shape", justify="right")
    layers.add_column("dtype")
    layers.add_column("count", justify="right")
    for layer in checkpoint.layers:
        shape = " x ".join(map(str, layer.shape)) or "scalar"
        layers.add_row(Text(layer.name), shape, layer.dtype, f"{layer.parameters:,}")
    return [facts, layers]


def refinement(report: RefinementReport, *, verbose: bool) -> list[RenderableType]:
    """A refinement: where it began, where it ended and why, the evidence, and what point it is."""
    opened, point, inertia = report.opened, report.point, report.point.inertia
    first, last, certificate = point.trace[0], point.trace[-1], report.point.certificate
    data, risk = opened.data, opened.risk
    facts = _facts()
    _add(facts, "checkpoint", str(opened.checkpoint.path), opened.checkpoint.architecture)
    _add(facts, "data", f"{data.name} {data.split}, {len(data):,} examples", *data.preprocessing)
    options = point.configuration
    _add(facts, "method", point.method, f"{options['globalisation']}, merit {options['merit']}")
    penalty = f" + {risk.l2:g}/2·‖θ‖²" if risk.l2 else ""
    change = f"{first.loss:.6g} → {last.loss:.6g}"
    _add(facts, "loss", change, f"{risk.loss.name}{penalty}")
    if report.before.accuracy is not None and report.after.accuracy is not None:
        _add(facts, "accuracy", f"{report.before.accuracy:.2%} → {report.after.accuracy:.2%}")
    floor = certificate.gradient_floor
    known = [f"rounding floor {floor:.2g}"] if floor == floor else []
    norms = f"{first.gradient_norm:.4g} → {last.gradient_norm:.4g}"
    _add(facts, "gradient norm", norms, *known)
    effort = [f"{point.hvps:,} Hessian-vector products"]
    effort += [f"{last.hessians:,} Hessians"] if last.hessians else []
    _add(facts, "steps", f"{point.iterations:,}", *effort, f"{report.seconds:.1f} s")
    if verbose and point.state.plan is not None:
        _add(facts, "", str(point.state.plan))
    style = "bold green" if point.status == "converged" else "bold yellow"
    status = Text(point.status.replace("_", " "), style=style)
    said = in_flags(point.diagnosis.removeprefix(f"{point.status}: "))
    facts.add_row("status", status.append(f"  ({said})", style="dim"))
    facts.add_row()
    facts.add_row("certificate", _certificate(report))
    evidence = [
        f"{name} {value:.2g}"
        for name, value in (
            ("gradient-flatness", certificate.flatness),
            ("Newton decrement", certificate.newton_decrement),
            ("distance of the nearest kink", certificate.boundary_distance),
        )
        if math.isfinite(value)
    ]
    if evidence:
        facts.add_row("", Text(", ".join(evidence), style="dim"))
    parts: list[RenderableType] = [facts]
    if inertia is not None:
        _add(facts, "parameters n", f"{inertia.size:,}")
        _add(facts, "tolerance τ", f"{inertia.tolerance:.2g}", point.tolerance_source or "")
        parts.append(_counts(inertia))
    verdict = _facts()
    critical = point.criticality is not None and point.criticality.critical
    style = "bold green" if critical else "bold yellow"
    verdict.add_row("point", Text(point.classification, style=style))
    constants = report.saddle_constants
    if constants is not None and constants.kappa < constants.size:
        _add(verdict, "stable saddle", _constants(constants), "of the 2017 paper")
    parts.append(verdict)
    return parts


def _constants(constants: SaddleConstants) -> str:
    """κ, ε, ρ and δ, those that are known."""
    known = [f"κ = {constants.kappa:,}", f"ε > {constants.epsilon:.2g}"]
    known += [f"ρ = {constants.rho:.2g}"] if math.isfinite(constants.rho) else []
    known += [f"δ = {constants.delta:.2g}"] if math.isfinite(constants.delta) else []
    return ", ".join(known)


def _certificate(report: RefinementReport) -> Text:
    """The level, and what it says or why it says nothing."""
    certificate = report.point.certificate
    if not certificate.certified:
        return Text.assemble((certificate.level, "yellow"), (f"  ({certificate.reason})", "dim"))
    statement = (
        f"a true critical point within {certificate.radius:.2g}, h = {certificate.h:.2g}; "
        f"{certificate.reason}"
    )
    return Text.assemble((certificate.level, "bold green"), (f"  ({statement})", "dim"))


def _add_loss(facts: Table, name: str, l2: float, loss: float, accuracy: float | None) -> None:
    remark = name + (f" + {l2:g}/2·‖θ‖²" if l2 else "")
    evaluation = Evaluation(loss, accuracy)
    _add(facts, "loss", f"{evaluation.loss:.6g}", remark)
    if evaluation.accuracy is not None:
        _add(facts, "accuracy", f"{evaluation.accuracy:.2%}")


def _counts(inertia: Inertia, published: PublishedCounts | None = None) -> Table:
    table = _table()
    table.add_column("eigenvalues")
    table.add_column("", style="bold")
    table.add_column("count", justify="right")
    table.add_column(_interval_header(inertia), justify="right")
    table.add_column("of n", justify="right")
    theirs = ("", "", "")
    if published is not None:
        table.add_column("sankar2017", justify="right")
        theirs = (
            f"{published.negative:,} (λ < 0)",
            f"{published.just_zero:,} (λ = 0)",
            f"{published.positive:,} (λ > 0)",
        )
    rows: tuple[tuple[str, str, CountInterval], ...] = (
        ("negative, λ < −τ", "index", inertia.negative),
        ("zero, |λ| ≤ τ", "degeneracy", inertia.zero),
        ("positive, λ > τ", "", inertia.positive),
    )
    for (name, word, count), other in zip(rows, theirs, strict=True):
        # An estimate that its interval does not hold up must not look like a result.
        open_ = not inertia.usable(count)
        estimate = Text(f"{count.estimate:,}{'?' if open_ else ''}", "dim" if open_ else "bold")
        share = Text(f"{count.estimate / inertia.size:.2%}", "dim" if open_ else "")
        beside = () if published is None else (other,)
        table.add_row(name, word, estimate, _interval(count), share, *beside)
    return table


def _published(counts: PublishedCounts) -> str:
    """What the column of the other rule leaves to be said."""
    return (
        "sankar2017: the Hessian stored in float32, no tolerance; zero is what came out as 0.0, an "
        f"exactly zero row.\nIts code's second number of zeros, #(λ = 0) + #(λ min/2 < λ < 0): "
        f"{counts.one_sided_zero:,}. The sign of {counts.undecided:,} eigenvalues was decided by "
        "the solver's rounding alone."
    )


def _sweep(rows: tuple[Inertia, ...], asked: Inertia) -> Table:
    """Counts at several tolerances, the one asked for in bold; intervals where they are open."""
    table = _table()
    for name in ("tolerance τ", "index", "degeneracy"):
        table.add_column(name, justify="right")
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


def _gap(gap: WidestGap, tolerance: float) -> str:
    words = gap.in_words()
    if gap.gap.found and tolerance not in gap.gap:
        words += f"; τ = {tolerance:.2g} lies outside"
    return words[0].upper() + words[1:]


def _interval_header(inertia: Inertia) -> str:
    confidence = inertia.negative.confidence
    return "within rounding" if confidence == 1.0 else f"{confidence:.0%} interval"


def _interval(count: CountInterval) -> str:
    return f"{count.lower:,} – {count.upper:,}"


def _is_wide(inertia: Inertia) -> bool:
    return not (inertia.usable(inertia.negative) and inertia.usable(inertia.zero))


def _how_to_narrow(report: SpectrumReport) -> str:
    """What helps, by what the sweep shows: a larger tolerance, else more work."""
    tau = report.inertia.tolerance if report.inertia else 0.0
    above = (i for i in report.sweep if i.tolerance > tau)
    narrow = next((i for i in above if not _is_wide(i)), None)
    larger = f" At --tolerance {narrow.tolerance:g} they are narrow." if narrow else ""
    return (
        "The intervals are wide: so few steps cannot tell zero from small at this tolerance."
        f"{larger} More --steps and --probes narrow them; --backend exact has none to speak of."
    )


def _shortened(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
