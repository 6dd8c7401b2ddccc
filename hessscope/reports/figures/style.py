"""Style and saving of figures: one column wide, legible, the same bytes each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import LogLocator, NullFormatter

from hessscope.errors import OptionError, UnknownNameError
from hessscope.records import prepare_output, write_atomically
from hessscope.registry import FIGURES

COLUMN_WIDTH = 8.0 / 2.54
"""Width of a journal column in inches (8 cm): figures are drawn at the size they are read at."""

FONT_SIZE = 7.0
"""Points; the smallest size that prints legibly."""

FACTS_WIDTH = 50
"""Letters of that size that a column holds beside the labels of an axis."""

LINE_SPACING = 1.2
"""Of the facts above a figure."""

FIGURE_FORMATS = (".png", ".pdf", ".svg")
"""What ``save_figure`` writes."""

PALETTE = seaborn.color_palette("colorblind")
NEGATIVE = PALETTE[3]
"""Vermilion: eigenvalues below −τ."""
POSITIVE = PALETTE[0]
"""Blue: eigenvalues above τ."""
ZERO = (0.45, 0.45, 0.45)
"""Grey: eigenvalues within ±τ."""
DOUBT = (0.985, 0.965, 0.80)
"""Pale yellow, behind everything: here rounding decides."""
INK = (0.15, 0.15, 0.15)
"""Text, axes, and the line at 0."""

_TEXT_SIZES = ("font.size", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
_INKED = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
STYLE: dict[str, Any] = {
    **seaborn.axes_style("ticks"),
    # One family that comes with matplotlib, so that the figure is the same on every machine.
    "font.family": ["DejaVu Sans"],
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    **dict.fromkeys(_TEXT_SIZES, FONT_SIZE),
    "axes.titlesize": FONT_SIZE + 1,
    "axes.labelsize": FONT_SIZE + 0.5,
    **dict.fromkeys(_INKED, INK),
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
}


def styled(**further: Any) -> AbstractContextManager[None]:
    """Draw in the style of the figures; the user's own settings are back afterwards."""
    settings: Any = STYLE | further  # newer matplotlib types list every name
    return matplotlib.rc_context(settings)


def fix_ticks(ax: Axes) -> None:
    """Write the style into the ticks themselves.

    Matplotlib makes ticks when it draws, with the settings of that moment, which are the user's.
    """
    both: dict[str, Any] = {"color": INK, "labelcolor": INK, "direction": "out"}
    ax.tick_params(which="major", length=3, width=0.6, labelsize=FONT_SIZE, pad=2, **both)
    ax.tick_params(which="minor", length=1.6, width=0.4, labelsize=FONT_SIZE, **both)


def check_figure_path(path: str | Path, overwrite: bool = False) -> Path:
    """Make sure, before any work, that a figure can be saved at ``path``.

    Raises:
        UnknownNameError: the suffix is not one of ``FIGURE_FORMATS``.
        OutputExistsError: the file exists and ``overwrite`` was not given.
        RecordError: the folder is missing or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FIGURE_FORMATS:
        hint = f"The suffix of {path.name} decides the format."
        raise UnknownNameError("figure format", path.suffix, FIGURE_FORMATS, hint=hint)
    return prepare_output(path, overwrite)


def save_figure(target: Axes | Figure, path: str | Path, overwrite: bool = False) -> Path:
    """Save a figure as PNG (300 dpi), PDF or SVG, by the suffix of ``path``.

    The file is written whole or not at all. Text in a PDF stays text, with its fonts embedded; in
    an SVG it is outlines. The same figure gives the same bytes: no dates are written.

    Args:
        target: the figure, or any axes in it.
        path: where to.
        overwrite: replace a file that is there.

    Returns:
        The path.

    Raises:
        UnknownNameError: the suffix is not one of ``FIGURE_FORMATS``.
        OutputExistsError: the file exists and ``overwrite`` was not given.
        RecordError: the disk is full, or the folder is missing or cannot be written.
    """
    path = check_figure_path(path, overwrite)
    write_atomically(path, encoded(target, path.suffix.lower().removeprefix(".")), overwrite)
    return path


def encoded(target: Axes | Figure, kind: str) -> bytes:
    """The content of a file of a figure: "png", "pdf" or "svg"."""
    figure = figure_of(target)
    output = {
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "hessscope",
        # A figure with a layout of its own keeps its width; of others nothing may be cut off.
        "savefig.bbox": "tight" if figure.get_layout_engine() is None else "standard",
    }
    metadata: dict[str, Any] = {
        "png": {"Software": "hessscope"},
        "pdf": {"Creator": "hessscope", "Producer": "matplotlib", "CreationDate": None},
        "svg": {"Creator": "hessscope", "Date": None},
    }
    buffer = io.BytesIO()
    with styled(**output):
        figure.savefig(buffer, format=kind, dpi=300, metadata=metadata[kind])
    return buffer.getvalue()


def figure_of(target: Axes | Figure) -> Figure:
    """Give the whole figure that ``target`` is or is in.

    Raises:
        OptionError: the axes are in no figure any more.
    """
    figure = target if isinstance(target, Figure) else target.figure
    if figure is not None and not isinstance(figure, Figure):
        figure = figure.figure  # a subfigure; this is its root
    if not isinstance(figure, Figure):
        raise OptionError("these axes were removed from their figure; draw them again")
    return figure


@contextmanager
def canvas(
    target: Axes | Figure | None,
    height: float,
    panels: Sequence[float] = (1.0,),
    *,
    gap: float = 0.02,
    **shared: bool,
) -> Iterator[list[Axes]]:
    """Axes to draw into, in the style of the figures, one below the other.

    Args:
        target: the user's axes, which are then the only ones; or an empty figure; None for a new
            one that a notebook shows, and that is closed again where drawing fails.
        height: of the figure, in widths of a column.
        panels: height of each, relative to the others.
        gap: between them, relative to their height.
        shared: ``sharex``, ``sharey``: they have one axis.
    """
    if isinstance(target, Axes):
        with styled():
            fix_ticks(target)
            yield [target]
        return
    figure = _shown_figure() if target is None else target
    try:
        with styled():
            figure.set_size_inches(COLUMN_WIDTH, height * COLUMN_WIDTH)
            figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.02, hspace=gap)
            grid: dict[str, Any] = {"squeeze": False, "height_ratios": panels, **shared}
            rows = figure.subplots(len(panels), 1, **grid)[:, 0]
            for ax in rows:
                fix_ticks(ax)
            yield list(rows)
    except Exception:
        if target is None:
            plt.close(figure)  # else an empty figure would be shown
        raise


def draw(figure: str | Callable[..., Any], source: Any, **options: Any) -> Figure:
    """Draw a figure without pyplot: it needs no display and may run in a thread.

    Args:
        figure: one of ``FIGURES`` by its name, or a function as those.
        source: what it draws.
        options: further ones of the function.
    """
    with styled():
        drawn = Figure()
    FIGURES.find(figure)(source, ax=drawn, **options)
    return drawn


def _shown_figure() -> Figure:
    """A figure that a notebook or ``plt.show()`` shows; where pyplot cannot start, a plain one."""
    try:
        # Not under ``styled``: what a notebook's backend switches on here has to stay on.
        return plt.figure(dpi=STYLE["figure.dpi"], facecolor="white")
    except Exception:  # of a backend that cannot be imported, needs a display, or is none
        return Figure()


def write_facts(
    ax: Axes, parts: Iterable[str], title: str | None = None, offset: float = 3.0
) -> None:
    """Write above the axes what the figure's numbers stand on, in lines that a column holds.

    Args:
        ax: the axes.
        parts: short texts, joined by semicolons where a line has room.
        title: above them.
        offset: points between the axes and the lowest line.
    """
    lines: list[str] = []
    for part in parts:
        if lines and len(f"{lines[-1]}; {part}") <= FACTS_WIDTH:
            lines[-1] += f"; {part}"
        else:
            lines.append(part)
    label = ax.annotate("\n".join(lines), (0.0, 1.0), (0, offset), "axes fraction", "offset points")
    label.set(fontsize=FONT_SIZE, va="bottom", linespacing=LINE_SPACING, gid="facts")
    if title is not None:
        above = offset + 3.0 + 0.95 * len(lines) * LINE_SPACING * FONT_SIZE
        ax.set_title(title, loc="left", pad=above)


def draw_ticks(
    ax: Axes, x: np.ndarray, height: float, color: Any, label: str, line: str = "none"
) -> None:
    """Short upright lines at a height in parts of the axes, which a line may join."""
    look: dict[str, Any] = {"linestyle": line, "linewidth": 0.7, "color": color, "label": label}
    look |= {"marker": "|", "markersize": 4, "markeredgewidth": 0.7}
    ax.plot(x, np.full(len(x), height), transform=ax.get_xaxis_transform(), **look)


def color_bar(ax: Axes, drawn: Any, label: str, aspect: float) -> Colorbar:
    """The bar beside the axes that says what the colours mean."""
    bar = figure_of(ax).colorbar(drawn, ax=ax, pad=0.02, aspect=aspect)
    bar.set_label(label)
    bar.ax.tick_params(labelsize=FONT_SIZE, length=2)
    return bar


def log_axis(axis: Axis, ticks: int) -> None:
    """Powers of ten on a logarithmic axis, so many at most, and no numbers between them."""
    axis.set_major_locator(LogLocator(numticks=ticks))
    axis.set_minor_formatter(NullFormatter())


def draw_bars(
    ax: Axes, x: np.ndarray, heights: np.ndarray, width: float, color: Any, **style: Any
) -> None:
    """Bars of one colour that leave no seams."""
    ax.bar(x, heights, width, color=color, edgecolor=color, linewidth=0.3, **style)


def legend_above(ax: Axes, left: float = 0.0, **options: Any) -> Legend:
    """A legend in columns above the axes, without a frame."""
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (left, 1.0)}
    return ax.legend(frameon=False, borderaxespad=0.2, **above, **options)


def name_text(name: str, most: int = 24) -> str:
    """A user's name as a figure can show it: not too long, and no dollar starts a formula."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return short.replace("$", r"\$")
