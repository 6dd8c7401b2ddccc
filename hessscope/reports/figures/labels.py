"""Labels of points, placed where they cover neither each other nor what is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from hessscope.reports.figures.style import FONT_SIZE, INK, figure_of, name_text

# Where a name may stand from its point; the first are what readers expect.
_SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
_RINGS = 4
_GAP = 4.5  # points from the middle of a marker to its name
_MARKER = 3.0  # half the width of a marker, with a little air
_STEP = 2.0  # pixels between the places at which a line is looked at


def name_points(
    ax: Axes,
    points: Sequence[tuple[str, tuple[float, float]]],
    lines: Iterable[Line2D] = (),
    **style: Any,
) -> list[Annotation]:
    """Write names beside points; a name that has to stand further off gets a line to its point.

    To be called last, since it measures the figure as it is laid out then.

    Args:
        ax: the axes.
        points: names and places in data coordinates.
        lines: lines that no name shall cover.
        style: of the texts, such as their colour.
    """
    if not points:
        return []
    figure = figure_of(ax)
    texts = [name_text(name) for name, _ in points]
    trials = [ax.text(0.5, 0.5, text, transform=ax.transAxes, fontsize=FONT_SIZE) for text in texts]
    figure.draw_without_rendering()
    sizes = [(box.width, box.height) for box in (trial.get_window_extent() for trial in trials)]
    for trial in trials:
        trial.remove()
    scale = figure.dpi / 72.0
    places = ax.transData.transform([at for _, at in points]).reshape(-1, 2)
    curve = np.concatenate([np.empty((0, 2)), *map(_pixels, lines)])
    frame = Bbox(ax.bbox.get_points())
    taken: list[Bbox] = []
    labels = []
    for text, (_, at), place, size in zip(texts, points, places, sizes, strict=True):
        costs = [
            (_cost(box, scale, frame, taken, places, curve) + extra, box, far)
            for extra, box, far in _candidates(place, size, scale)
        ]
        _, box, far = min(costs, key=lambda item: item[0])
        taken.append(box)
        offset = ((box.x0 - place[0]) / scale, (box.y0 - place[1]) / scale)
        leader = {"arrowstyle": "-", "linewidth": 0.5, "color": style.get("color", INK)}
        leader |= {"shrinkA": 0.0, "shrinkB": 2.0}
        label = ax.annotate(
            text, at, offset, "data", "offset points", leader if far else None, fontsize=FONT_SIZE,
            verticalalignment="bottom", **style,
        )  # fmt: skip
        label.set_in_layout(False)  # it is within the axes, which must not move any more
        labels.append(label)
    return labels


def _candidates(
    place: np.ndarray, size: tuple[float, float], scale: float
) -> Iterator[tuple[float, Bbox, bool]]:
    """Boxes around a point, with what they cost by themselves, and whether they are far off."""
    (x, y), (width, height) = place, size
    for ring in range(_RINGS):
        for order, (across, up) in enumerate(_SIDES):
            away = ring * 1.2 * height
            dx = _GAP * scale + (0.0 if up else away)
            dy = (0.5 if across else 1.0) * _GAP * scale + away
            left = x + (dx if across > 0 else -dx - width if across < 0 else -0.5 * width)
            bottom = y + (dy if up > 0 else -dy - height if up < 0 else -0.5 * height)
            yield ring + 0.05 * order, Bbox.from_bounds(left, bottom, width, height), ring > 0


def _cost(
    box: Bbox, scale: float, frame: Bbox, taken: list[Bbox], markers: np.ndarray, curve: np.ndarray
) -> float:
    """What a box covers that it should not: the frame's outside, names, markers and lines."""
    area = box.width * box.height
    near = box.padded(scale)
    outside = 1.0 - _common(box, frame) / area
    covered = sum(_common(near, other) for other in taken) / area
    along = near.count_contains(curve) * _STEP / box.height
    # In units of one ring further out: what cannot be read any more is worth more than all rings.
    return (
        40.0 * outside
        + 20.0 * covered
        + 8.0 * box.padded(_MARKER * scale).count_contains(markers)
        + (3.0 + along if along else 0.0)
    )


def _common(one: Bbox, other: Bbox) -> float:
    """The area that both cover."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height


def _pixels(line: Line2D) -> np.ndarray:
    """Places along a line in pixels, near enough that no name fits between them."""
    corners = line.get_transform().transform(line.get_xydata())
    corners = corners[np.isfinite(corners).all(axis=1)]
    if len(corners) < 2:
        return corners
    lengths = np.hypot(*np.diff(corners, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    steps = np.arange(0.0, along[-1], _STEP)
    return np.column_stack([np.interp(steps, along, part) for part in corners.T])
