"""Figure of a search for a critical point: loss, gradient norm, step length and damping."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hessscope.errors import OptionError
from hessscope.records import Record
from hessscope.reports.figures import style
from hessscope.reports.tables.records import RecordLike, as_record

_DAMPING = (0.0, 0.62, 0.45)  # the palette's bluish green
# Curves with more points than this have no markers.
_MARKED = 60


def plot_trace(search: RecordLike, *, ax: Figure | None = None) -> tuple[Axes, ...]:
    """Draw what a search did: the loss, and below it gradient norm, step length and damping.

    Where the method knows the index of each Hessian a third panel shows it.

    Args:
        search: its report, or a record of kind "critical point" (or of the state of a search),
            with its trace.
        ax: draw into this empty figure; default a new one of a column's width.

    Returns:
        The axes, from the loss down.

    Raises:
        OptionError: the record has no trace.
    """
    record = as_record(search)
    if "trace/loss" not in record.arrays:
        raise OptionError(f"this record (kind '{record.kind}') has no trace of a search")
    loss = record.arrays["trace/loss"]
    index = record.arrays.get("trace/index", np.full(len(loss), -1))
    steps = np.arange(len(loss))
    # The index belongs to the Hessian that a step was made from: the point before it.
    known = index[1:] >= 0
    heights = [1.0, 1.3, *([0.6] if known.any() else [])]
    with style.canvas(ax, 0.3 + 0.4 * len(heights), heights, gap=0.03, sharex=True) as axes:
        marker = "." if len(loss) <= _MARKED else ""
        axes[0].plot(steps, loss, marker, linestyle="-", color=style.POSITIVE, markersize=3)
        axes[0].set_ylabel("Loss L(θ)")
        facts = [str(record.attributes.get(name, "")) for name in ("method", "status")]
        title = ": ".join(part for part in facts if part)
        axes[0].set_title(title.replace("_", " "), loc="left")
        _draw_norms(axes[1], record, steps, marker)
        if known.any():
            x, y = steps[:-1][known], index[1:][known]
            axes[2].step(x, y, where="post", color=style.INK, linewidth=1.0)
            axes[2].set_ylabel("Index")
            axes[2].yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes[-1].set_xlabel("Iteration")
        axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        style.figure_of(axes[0]).align_ylabels()
    return tuple(axes)


def _draw_norms(ax: Axes, record: Record, steps: np.ndarray, marker: str) -> None:
    """Gradient norm, step length and damping on one logarithmic axis."""
    for name, label, color, dashes in (
        ("gradient_norm", "gradient ‖∇L‖", style.NEGATIVE, "-"),
        ("step_length", "step ‖Δθ‖", style.ZERO, (0, (3.5, 1.2))),
        ("damping", "damping", _DAMPING, (0, (1.2, 1.2))),
    ):
        values = record.arrays.get(f"trace/{name}")
        if values is None or not bool((values > 0).any()):
            continue
        shown = np.where(values > 0, values, np.nan)
        ax.plot(steps, shown, marker, linestyle=dashes, color=color, markersize=3, label=label)
    ax.set_yscale("log")
    style.log_axis(ax.yaxis, 6)
    ax.set_ylabel("Norm, damping")
    style.legend_above(ax, -0.1, ncols=3, handlelength=1.6, columnspacing=0.9, handletextpad=0.4)
