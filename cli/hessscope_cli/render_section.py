"""Sections of the loss as tables on the terminal."""

from __future__ import annotations

import numpy as np
from rich.console import RenderableType

from hessscope.objective import LossSection
from hessscope.pipeline import SectionReport
from hessscope_cli.layout import add_fact, facts_table

_ENDS = {"highest": "λ max", "lowest": "λ min"}


def section(report: SectionReport) -> list[RenderableType]:
    """A section of the loss: what it goes through, and how high the loss is there."""
    found, data = report.section, report.opened.data
    facts = facts_table()
    for number, path in enumerate(report.points):
        add_fact(facts, "" if number else "checkpoint", path)
    examples = f"{data.name} {data.split}, {len(data):,} examples"
    add_fact(facts, "data", examples, *data.preprocessing)
    for pair in report.eigenpairs:
        residual = f"residual {pair.residuals[0]:.2g}"
        add_fact(facts, _ENDS[pair.which], f"{pair.values[0]:.6g}", residual)
    for name, axis in zip(found.names, found.coordinates, strict=True):
        add_fact(facts, "axis", name, f"{axis[0]:.4g} to {axis[-1]:.4g}, {len(axis)} values")
    facts.add_row()
    for name, at in found.marks:
        if (value := _value_at(found, at)) is not None:
            add_fact(facts, f"loss at {name}", f"{value:.6g}")
    finite = found.values[np.isfinite(found.values)]
    if finite.size:
        add_fact(facts, "loss", f"{finite.min():.6g} to {finite.max():.6g}", "on the section")
    if found.barrier is not None:
        above = "above the line between the ends' losses"
        add_fact(facts, "barrier", f"{found.barrier:.6g}", above)
    effort = f"{report.hvps:,} Hessian-vector products, {report.seconds:.1f} s"
    add_fact(facts, "evaluations", f"{found.evaluations:,}", effort)
    return [facts]


def _value_at(section: LossSection, at: tuple[float, ...]) -> float | None:
    """The loss at a place; None where it is between the points of the grid."""
    place = []
    for axis, x in zip(section.coordinates, at, strict=True):
        k = int(np.abs(axis - x).argmin())
        if abs(axis[k] - x) > 1e-9 * (axis[-1] - axis[0]):
            return None
        place.append(k)
    return float(section.values[tuple(place)])
