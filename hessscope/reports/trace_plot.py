"""Figure of a search for a critical point: loss, gradient norm and step length by iteration."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.reports.figures import (
    COLUMN_WIDTH,
    NEGATIVE,
    POSITIVE,
    ZERO,
    fix_ticks,
    name_text,
    styled,
    write_facts,
)


def trace_figure(record: Record, *, figure: Figure | None = None) -> Figure:
    """Draw what a search did: the loss, and below it gradient norm and step length.

    Args:
        record: of kind "critical point", with its trace.
        figure: draw into this one; default a new one of a column's width.

    Raises:
        OptionError: the record has no trace.
    """
    if "trace/loss" not in record.arrays:
        raise OptionError(f"this record (kind '{record.kind}') has no trace of a search")
    loss = record.arrays["trace/loss"]
    steps = np.arange(len(loss))
    with styled():
        if figure is None:
            figure = Figure()
        figure.set_size_inches(COLUMN_WIDTH, 1.05 * COLUMN_WIDTH)
        figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=0.03)
        upper, lower = figure.subplots(2, 1, sharex=True)
        for ax in (upper, lower):
            fix_ticks(ax)
        upper.plot(steps, loss, ".-", color=POSITIVE, markersize=3)
        upper.set_ylabel("Loss L(θ)")
        said = (str(record.attributes.get(name, "")) for name in ("method", "status"))
        write_facts(upper, [name_text(text) for text in said if text])
        for name, title, color, dashes in (
            ("gradient_norm", "gradient norm ‖∇L‖", NEGATIVE, "-"),
            ("step_length", "step length ‖Δθ‖", ZERO, (0, (3.5, 1.2))),
        ):
            values = record.arrays.get(f"trace/{name}")
            if values is not None and bool((values > 0).any()):
                shown = np.where(values > 0, values, np.nan)
                lower.plot(
                    steps, shown, ".", linestyle=dashes, color=color, markersize=3, label=title
                )
        lower.set_yscale("log")
        lower.set_xlabel("Iteration")
        lower.set_ylabel("Norm")
        lower.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        lower.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, borderaxespad=0.2
        )
    return figure
