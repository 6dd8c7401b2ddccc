"""Figure of searches on a function of two variables: where each method goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hessscope.errors import OptionError
from hessscope.objective import Objective
from hessscope.reports.figures.style import INK, PALETTE, canvas

_GRID = 161
_LEVELS = 15
# A path leaves the picture where it is this far outside, in parts of its width.
_OUTSIDE = 0.5
_DASHES = ("-", (0, (4, 1.2)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)))


def plot_paths(
    objective: Objective,
    paths: Mapping[str, np.ndarray],
    *,
    width: float = 1.2,
    title: str = "",
    ax: Axes | Figure | None = None,
) -> Axes:
    """Draw the paths of searches over the levels of a function of two variables.

    Args:
        objective: f, n = 2.
        paths: points of each path, shape (steps, 2), by its label.
        width: the picture shows [−width, width] in both variables.
        title: above it.
        ax: axes to draw into; default a new figure of a column's width.

    Raises:
        OptionError: the function has not two variables, or a path not two coordinates.
    """
    if len(objective.parameters) != 2 or any(path.shape[1:] != (2,) for path in paths.values()):
        raise OptionError("paths can be drawn for functions of two variables only")
    with canvas(ax, 1.0) as (axes,):
        _draw_levels(axes, objective, width)
        colors = [PALETTE[k] for k in (0, 3, 2, 4)]
        for i, (label, path) in enumerate(paths.items()):
            inside = np.abs(path).max(1) <= (1.0 + _OUTSIDE) * width
            count = len(path) if inside.all() else int(np.argmin(inside)) + 1
            look: dict[str, Any] = {"marker": ".", "markersize": 3.5, "linewidth": 1.3}
            look |= {"linestyle": _DASHES[i % len(_DASHES)], "color": colors[i % len(colors)]}
            axes.plot(*path[:count].T, label=label, zorder=3 + i, **look)
        for path in paths.values():
            axes.plot(*path[0], marker="o", color="white", markeredgecolor=INK, zorder=10)
        axes.set(xlim=(-width, width), ylim=(-width, width), xlabel="$x$", ylabel="$y$")
        axes.set_aspect("equal")
        axes.set_title(title, loc="left")
        axes.legend(loc="lower left", framealpha=0.95, edgecolor="none")
    return axes


def _draw_levels(ax: Axes, objective: Objective, width: float) -> None:
    """Level lines, dashed below the level of the origin; closer to it they are denser."""
    grid = np.linspace(-width, width, _GRID)
    values = np.array([[objective.value(torch.tensor([x, y])) for x in grid] for y in grid])
    origin = objective.value(torch.zeros(2))
    shifted = values - origin
    finite = np.abs(shifted[np.isfinite(shifted)])
    largest = float(finite.max()) if finite.size else 0.0
    if largest == 0.0:  # a function that is the same everywhere has no level lines
        return
    half = largest * np.linspace(0.0, 1.0, _LEVELS // 2 + 1)[1:] ** 2
    levels = np.concatenate([-half[::-1], [0.0], half])
    styles = ["--" if level < 0 else "-" for level in levels]
    ax.contour(grid, grid, shifted, levels, colors="0.6", linestyles=styles, linewidths=0.5)
