"""Results as tables on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hessscope.backends import PyHessianResult
from hessscope.objective import Evaluation
from hessscope.pipeline import Inspection, RefinementReport, SpectrumReport
from hessscope.spectra import CountInterval, Inertia, SpectralDensity

# An interval as wide as this part of n says little, and what helps should be said.
_WIDE = 0.1


def spectrum(report: SpectrumReport, *, verbose: bool) -> list[RenderableType]:
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
    setting = f"{report.backend}, {result.dtype}, {opened.risk.device}"
    effort = f"{result.hvps:,} Hessian-vector products, {report.seconds:.1f} s"
    _add(facts, "backend", setting, effort)
    if verbose:
        _add(facts, "", report.choice)
        _add(facts, "", ", ".join(f"{k} {v}" for k, v in report.plan.items()))
    facts.add_row()
    _add(facts, "parameters n", f"{result.size:,}")
    _add_extremes(facts, report)
    parts: list[RenderableType] = [facts]
    if inertia is not None:
        _add(facts, "noise floor δ", f"{inertia.noise_floor:.2g}", "of each eigenvalue")
        source = "2δ" if inertia.tolerance == 2 * inertia.noise_floor else "given"
        _add(facts, "tolerance τ", f"{inertia.tolerance:.2g}", source)
        parts.append(_counts(inertia))
    verdict = _facts()
    style = "bold green" if critical.critical else "bold yellow"
    verdict.add_row("point", Text(report.classification, style=style))
    parts.append(verdict)
    if len(report.sweep) > 1:
        parts.append(_sweep(report.sweep))
    if inertia is not None and isinstance(result, SpectralDensity) and _is_wide(inertia):
        parts.append(Text(_how_to_narrow(report), style="yellow"))
    return parts


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
    options = point.options
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
    said = point.diagnosis.removeprefix(f"{point.status}: ")
    facts.add_row("status", status.append(f"  ({said})", style="dim"))
    facts.add_row()
    facts.add_row("certificate", _certificate(report))
    parts: list[RenderableType] = [facts]
    if inertia is not None:
        _add(facts, "parameters n", f"{inertia.size:,}")
        source = "2δ" if inertia.tolerance == 2 * inertia.noise_floor else "given"
        _add(facts, "tolerance τ", f"{inertia.tolerance:.2g}", source)
        parts.append(_counts(inertia))
    verdict = _facts()
    critical = point.criticality is not None and point.criticality.critical
    style = "bold green" if critical else "bold yellow"
    verdict.add_row("point", Text(point.classification, style=style))
    parts.append(verdict)
    return parts


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


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=13)
    # Folded where it must be, never cut: paths are there to be copied.
    table.add_column(overflow="fold")
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim", pad_edge=False)


def _add(facts: Table, name: str, value: str, *remarks: str) -> None:
    """A name, its value, and remarks that are read second. Nothing in them is markup."""
    text = Text(value)
    if remarks:
        text.append(f"  ({'; '.join(remarks)})", style="dim")
    facts.add_row(Text(name), text)


def _add_loss(facts: Table, name: str, l2: float, loss: float, accuracy: float | None) -> None:
    remark = name + (f" + {l2:g}/2·‖θ‖²" if l2 else "")
    evaluation = Evaluation(loss, accuracy)
    _add(facts, "loss", f"{evaluation.loss:.6g}", remark)
    if evaluation.accuracy is not None:
        _add(facts, "accuracy", f"{evaluation.accuracy:.2%}")


def _add_extremes(facts: Table, report: SpectrumReport) -> None:
    result = report.result
    if isinstance(result, PyHessianResult):
        trace = result.trace_estimate()
        _add(facts, "λ largest |·|", ", ".join(f"{v:.6g}" for v in result.eigenvalues))
        between = f"{trace.lower:.4g} to {trace.upper:.4g} at {trace.confidence:.0%}"
        _add(facts, "trace", f"{trace.value:.4g}", between)
    elif isinstance(result, SpectralDensity):
        trace = result.trace_estimate()
        for name, bound, value, residual in (
            ("λ min", "at most", result.lambda_min, result.lambda_min_residual),
            ("λ max", "at least", result.lambda_max, result.lambda_max_residual),
        ):
            # Below the noise floor a residual says no more than that.
            within = max(residual, result.noise_floor.total)
            remark = f"{bound} this; an eigenvalue lies within {within:.2g}"
            _add(facts, name, f"{value:.6g}", remark)
        between = f"{trace.lower:.4g} to {trace.upper:.4g} at {trace.confidence:.0%}"
        _add(facts, "trace", f"{trace.value:.4g}", between)
    else:
        _add(facts, "λ min", f"{result.lambda_min:.6g}")
        _add(facts, "λ max", f"{result.lambda_max:.6g}")
        _add(facts, "trace", f"{result.trace:.6g}")


def _counts(inertia: Inertia) -> Table:
    table = _table()
    table.add_column("eigenvalues")
    table.add_column("", style="bold")
    table.add_column("count", justify="right")
    table.add_column(_interval_header(inertia), justify="right")
    table.add_column("of n", justify="right")
    rows: tuple[tuple[str, str, CountInterval], ...] = (
        ("negative, λ < −τ", "index", inertia.negative),
        ("zero, |λ| ≤ τ", "degeneracy", inertia.zero),
        ("positive, λ > τ", "", inertia.positive),
    )
    for name, word, count in rows:
        # An estimate that its interval does not hold up must not look like a result.
        open_ = count.upper - count.lower > _WIDE * inertia.size
        estimate = Text(f"{count.estimate:,}{'?' if open_ else ''}", "dim" if open_ else "bold")
        share = Text(f"{count.estimate / inertia.size:.2%}", "dim" if open_ else "")
        table.add_row(name, word, estimate, _interval(count), share)
    return table


def _sweep(sweep: tuple[Inertia, ...]) -> Table:
    """Counts at other tolerances, the one asked for in bold; intervals where they are open."""
    table = _table()
    for name in ("tolerance τ", "index", "degeneracy"):
        table.add_column(name, justify="right")
    for row, inertia in enumerate(sweep):
        counts = (str(inertia.negative), str(inertia.zero))
        tolerance = f"{inertia.tolerance:.{1 if row else 2}g}"
        table.add_row(tolerance, *counts, style="" if row else "bold")
    return table


def _interval_header(inertia: Inertia) -> str:
    confidence = inertia.negative.confidence
    return "within rounding" if confidence == 1.0 else f"{confidence:.0%} interval"


def _interval(count: CountInterval) -> str:
    return f"{count.lower:,} – {count.upper:,}"


def _is_wide(inertia: Inertia) -> bool:
    counts = (inertia.negative, inertia.zero)
    return any(count.upper - count.lower > _WIDE * inertia.size for count in counts)


def _how_to_narrow(report: SpectrumReport) -> str:
    """What helps, by what the sweep shows: a larger tolerance, else more work."""
    narrow = next((i for i in report.sweep[1:] if not _is_wide(i)), None)
    larger = f" At --tolerance {narrow.tolerance:g} they are narrow." if narrow else ""
    return (
        "The intervals are wide: so few steps cannot tell zero from small at this tolerance."
        f"{larger} More --steps and --probes narrow them; --backend exact has none to speak of."
    )


def _shortened(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
