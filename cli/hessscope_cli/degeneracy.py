"""Why eigenvalues are zero, as a table on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hessscope.degeneracy import DegeneracyAttribution


def causes(found: DegeneracyAttribution) -> list[RenderableType]:
    """Null directions by their causes, what is left, and what the columns mean."""
    table = Table(box=box.SIMPLE_HEAD, header_style="dim", border_style="dim", pad_edge=False)
    table.add_column(f"why zero (|λ| ≤ {found.tolerance:.2g})")
    for name in ("directions", "counted", "‖HV‖", "‖HX+(DX)ᵀg‖"):
        table.add_column(name, justify="right")
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
    notes: list[RenderableType] = [Text(note, style="yellow") for note in found.notes]
    return [table, *notes]
