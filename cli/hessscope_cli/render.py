"""Refinements as tables on the terminal."""

from __future__ import annotations

import math

from rich.console import RenderableType
from rich.text import Text

from hessscope.pipeline import RefinementReport
from hessscope.refinement.points import SaddleConstants
from hessscope_cli.layout import (
    add_data,
    add_fact,
    counts_table,
    facts_table,
    loss_in_words,
    verdict_table,
)
from hessscope_cli.wording import in_flags


def refinement(report: RefinementReport, *, verbose: bool) -> list[RenderableType]:
    """A refinement: where it began, where it ended and why, the evidence, and what point it is."""
    opened, point, inertia = report.opened, report.point, report.point.inertia
    first, last, certificate = point.trace[0], point.trace[-1], report.point.certificate
    known, facts = opened.as_dict(), facts_table()
    add_fact(facts, "checkpoint", str(opened.checkpoint.path), opened.checkpoint.architecture)
    add_data(facts, known)
    options = point.configuration
    add_fact(facts, "method", point.method, f"{options['globalisation']}, merit {options['merit']}")
    add_fact(facts, "loss", f"{first.loss:.6g} → {last.loss:.6g}", loss_in_words(known))
    if report.before.accuracy is not None and report.after.accuracy is not None:
        add_fact(facts, "accuracy", f"{report.before.accuracy:.2%} → {report.after.accuracy:.2%}")
    floor = certificate.gradient_floor
    rounding = [f"rounding floor {floor:.2g}"] if floor == floor else []
    norms = f"{first.gradient_norm:.4g} → {last.gradient_norm:.4g}"
    add_fact(facts, "gradient norm", norms, *rounding)
    effort = [f"{point.hvps:,} Hessian-vector products"]
    effort += [f"{last.hessians:,} Hessians"] if last.hessians else []
    add_fact(facts, "steps", f"{point.iterations:,}", *effort, f"{report.seconds:.1f} s")
    if verbose and point.state.plan is not None:
        add_fact(facts, "", str(point.state.plan))
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
        add_fact(facts, "parameters n", f"{inertia.size:,}")
        add_fact(facts, "tolerance τ", f"{inertia.tolerance:.2g}", point.tolerance_source or "")
        parts.append(counts_table(inertia))
    critical = point.criticality is not None and point.criticality.critical
    verdict = verdict_table(point.classification, critical=critical)
    constants = report.saddle_constants
    if constants is not None and constants.kappa < constants.size:
        add_fact(verdict, "stable saddle", _constants(constants), "of the 2017 paper")
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
