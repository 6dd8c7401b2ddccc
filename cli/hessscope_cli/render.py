"""Results as tables on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hessscope.backends import PyHessianResult
from hessscope.objective import Evaluation
from hessscope.pipeline import Inspection, SpectrumReport
from hessscope.spectra import CountInterval, Inertia, SpectralDensity
from hessscope_cli import terminal


def spectrum(report: SpectrumReport, *, quiet: bool, verbose: bool) -> None:
    """Print a spectrum: setting, extremes, counts, and what kind of point it is."""
    console = Console(highlight=False)
    facts = _facts()
    opened, result = report.opened, report.result
    facts.add_row("checkpoint", f"{opened.checkpoint.path}  ({opened.checkpoint.architecture})")
    facts.add_row("data", _data(report))
    facts.add_row("parameters", f"{result.size:,}")
    facts.add_row(*_loss(opened.risk.loss.name, Evaluation(report.loss, report.accuracy)))
    critical = report.criticality
    facts.add_row(
        "gradient norm",
        f"{critical.gradient_norm:.4g}   (rounding floor {_short(critical.gradient_floor)})",
    )
    facts.add_row(
        "backend",
        f"{report.backend}, {result.dtype}, {opened.risk.device}"
        f"   ({result.hvps:,} Hessian-vector products, {report.seconds:.1f} s)",
    )
    _add_extremes(facts, report)
    if report.inertia is not None:
        facts.add_row("noise floor δ", _short(report.inertia.noise_floor))
        facts.add_row("tolerance τ", _short(report.inertia.tolerance))
    facts.add_row("point", Text(report.classification, style="bold"))
    console.print(facts)
    if report.inertia is not None:
        console.print(_counts(report.inertia))
    if quiet:
        return
    for remark in report.notes:
        terminal.note(f"note: {remark}")
    if verbose:
        terminal.note(f"backend: {report.choice}")
        terminal.note(f"plan: {', '.join(f'{k} {v}' for k, v in report.plan.items())}")
    if report.record is not None:
        terminal.note(f"record: {report.record}")


def inspection(result: Inspection, *, quiet: bool) -> None:
    """Print what is in a checkpoint."""
    console = Console(highlight=False)
    checkpoint = result.checkpoint
    facts = _facts()
    facts.add_row("checkpoint", str(checkpoint.path))
    facts.add_row("format", checkpoint.format)
    source = checkpoint.architecture_source
    if checkpoint.activation_source is not None:
        source += f"; activation {checkpoint.activation_source}"
    facts.add_row("architecture", f"{checkpoint.architecture}  ({source})")
    facts.add_row("parameters", f"{checkpoint.parameters:,}")
    for key, value in checkpoint.metadata.items():
        facts.add_row(key, Text(str(value)[:120]))
    if result.opened is not None and result.loss is not None:
        facts.add_row(
            "data",
            f"{result.opened.data.name} {result.opened.data.split}, "
            f"{len(result.opened.data):,} examples",
        )
        facts.add_row(
            *_loss(result.opened.risk.loss.name, Evaluation(result.loss, result.accuracy))
        )
        facts.add_row("gradient norm", f"{result.gradient_norm:.4g}")
    console.print(facts)
    layers = Table(box=box.SIMPLE_HEAD)
    layers.add_column("parameter")
    layers.add_column("shape", justify="right")
    layers.add_column("dtype")
    layers.add_column("count", justify="right")
    for layer in checkpoint.layers:
        shape = " x ".join(map(str, layer.shape)) or "scalar"
        layers.add_row(layer.name, shape, layer.dtype, f"{layer.parameters:,}")
    console.print(layers)
    if not quiet:
        for remark in result.opened.notes if result.opened else checkpoint.notes:
            terminal.note(f"note: {remark}")


def _facts() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _data(report: SpectrumReport) -> str:
    data = report.opened.data
    steps = "; ".join(data.preprocessing)
    return f"{data.name} {data.split}, {len(data):,} examples" + (f"  ({steps})" if steps else "")


def _loss(name: str, evaluation: Evaluation) -> tuple[str, str]:
    accuracy = "" if evaluation.accuracy is None else f"   accuracy {evaluation.accuracy:.2%}"
    return "loss", f"{evaluation.loss:.6g}  ({name}){accuracy}"


def _add_extremes(facts: Table, report: SpectrumReport) -> None:
    result = report.result
    if isinstance(result, PyHessianResult):
        trace = result.trace_estimate()
        facts.add_row("top eigenvalues", ", ".join(f"{v:.6g}" for v in result.eigenvalues))
        facts.add_row("trace", f"{trace.value:.4g}  [{trace.lower:.4g}, {trace.upper:.4g}]")
    elif isinstance(result, SpectralDensity):
        trace = result.trace_estimate()
        facts.add_row("λ min", f"{result.lambda_min:.6g}  ± {_short(result.lambda_min_residual)}")
        facts.add_row("λ max", f"{result.lambda_max:.6g}  ± {_short(result.lambda_max_residual)}")
        facts.add_row(
            "trace",
            f"{trace.value:.4g}  [{trace.lower:.4g}, {trace.upper:.4g}] at {trace.confidence:.0%}",
        )
    else:
        facts.add_row("λ min", f"{result.lambda_min:.6g}")
        facts.add_row("λ max", f"{result.lambda_max:.6g}")
        facts.add_row("trace", f"{result.trace:.6g}")


def _counts(inertia: Inertia) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("eigenvalues")
    table.add_column("count", justify="right", style="bold")
    table.add_column("interval", justify="right")
    table.add_column("share of n", justify="right")
    confidence = inertia.negative.confidence
    kind = "rounding" if confidence == 1.0 else f"{confidence:.0%}"
    table.columns[2].header = f"interval ({kind})"
    rows: tuple[tuple[str, CountInterval], ...] = (
        ("negative, λ < −τ: index", inertia.negative),
        ("zero, |λ| ≤ τ: degeneracy", inertia.zero),
        ("positive, λ > τ", inertia.positive),
    )
    for name, count in rows:
        table.add_row(
            name,
            f"{count.estimate:,}",
            f"{count.lower:,} – {count.upper:,}",
            f"{count.estimate / inertia.size:.2%}",
        )
    return table


def _short(value: float) -> str:
    return f"{value:.2g}"
