"""The loss along a line and over a plane: what lies between points, or along given directions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hessscope.errors import OptionError
from hessscope.objective.terms import Objective
from hessscope.progress import Progress, silent
from hessscope.records import Record
from hessscope.records.record import from_parts, to_parts

KIND = "section"


@dataclass(frozen=True)
class LossSection:
    """Values of the loss on a line or a plane through parameter space.

    The point with coordinates t is ``origin + Σ tₖ·directions[k]``.

    Attributes:
        coordinates: one ascending vector for each direction.
        values: the loss, shape (len of each coordinate vector, …); NaN or infinite where it is.
        origin: θ, shape (n,).
        directions: shape (1 or 2, n).
        names: of the directions, for the axes.
        marks: points of interest as (name, coordinates), such as the ends of a line.
        slopes: gᵀv for each direction at the origin, where known.
        curvatures: vᵀHv for each direction at the origin, where known.
        evaluations: how many times the loss was evaluated over the data.
    """

    coordinates: tuple[np.ndarray, ...]
    values: np.ndarray
    origin: np.ndarray
    directions: np.ndarray
    names: tuple[str, ...]
    marks: tuple[tuple[str, tuple[float, ...]], ...] = ()
    slopes: tuple[float, ...] = ()
    curvatures: tuple[float, ...] = ()
    evaluations: int = 0

    @property
    def dimension(self) -> int:
        """1 for a line, 2 for a plane."""
        return len(self.coordinates)

    @property
    def barrier(self) -> float | None:
        """How far the loss between two points rises above the straight line between their losses.

        The largest L(t) − (1 − t)·L(0) − t·L(1) on the grid within [0, 1]; 0 where it never does;
        None for other sections, and where the loss is not finite somewhere.
        """
        if self.dimension != 1 or len(self.marks) != 2:
            return None
        (axis,) = self.coordinates
        inner = (axis >= 0) & (axis <= 1)
        start, end = np.interp([0.0, 1.0], axis, self.values)
        rise = self.values[inner] - (1 - axis[inner]) * start - axis[inner] * end
        highest = float(rise.max())
        return max(highest, 0.0) if math.isfinite(highest) else None

    def to_record(self, attributes: Mapping[str, Any] | None = None) -> Record:
        """Everything needed to draw it again, and ``attributes`` beside it."""
        arrays, own = to_parts(replace(self, coordinates=(), marks=()))
        arrays |= {f"coordinates/{k}": axis for k, axis in enumerate(self.coordinates)}
        arrays["mark_coordinates"] = np.array([at for _, at in self.marks], dtype=float)
        own["mark_names"] = [name for name, _ in self.marks]
        known = {name: value for name, value in own.items() if value}
        return Record(KIND, arrays, {**(attributes or {}), **known})

    @classmethod
    def from_record(cls, record: Record) -> LossSection:
        """Make the section that a record holds.

        Raises:
            OptionError: the record is of something else.
        """
        if record.kind != KIND:
            raise OptionError(f"a record of kind '{record.kind}' holds no section of the loss")
        own, arrays = dict(record.attributes), record.arrays
        places = map(tuple, arrays["mark_coordinates"].tolist())
        own["marks"] = tuple(zip(own.get("mark_names", ()), places, strict=True))
        own["coordinates"] = tuple(arrays[f"coordinates/{k}"] for k in range(len(own["names"])))
        return from_parts(cls, arrays, own)


def section_between(
    objective: Objective,
    points: list[torch.Tensor],
    *,
    names: tuple[str, ...] = ("A", "B", "C"),
    resolution: int | None = None,
    margin: float | None = None,
    progress: Progress = silent,
) -> LossSection:
    """The loss on the line through two points (Goodfellow, Vinyals & Saxe 2015), or on the plane
    through three.

    The line has A at 0 and B at 1. The plane has orthonormal axes, in the units of the parameters:
    the first from A towards B, the second towards C.

    Args:
        objective: the loss.
        points: two or three parameter vectors of shape (n,).
        names: of the points.
        resolution: values along each axis; default 51 on a line, 25 on a plane.
        margin: how far to go beyond the points, in parts of their distance; default 0 on a line,
            0.25 on a plane.
        progress: called with the evaluations.

    Cost: one pass over the data for each value, ``resolution`` or ``resolution``².

    Raises:
        OptionError: the points do not span a line or a plane, or an option has no usable value.
    """
    if len(points) not in (2, 3):
        raise OptionError(f"a section needs two or three points, got {len(points)}")
    n = len(objective.parameters)
    for name, point in zip(names, points, strict=False):
        if point.shape != (n,):
            raise OptionError(
                f"point {name} has shape {tuple(point.shape)}; expected {n} parameters"
            )
    plane = len(points) == 3
    margin = (0.25 if plane else 0.0) if margin is None else margin
    if not 0 <= margin < math.inf:
        raise OptionError(f"margin is {margin}: give a number of at least 0, such as 0.25")
    start = points[0].to(objective.parameters)
    first = points[1].to(start) - start
    length = float(torch.linalg.vector_norm(first))
    if length == 0:
        raise OptionError(f"the points {names[0]} and {names[1]} are the same: there is no line")
    if not plane:
        marks = ((names[0], (0.0,)), (names[1], (1.0,)))
        label = (f"position from {names[0]} (0) to {names[1]} (1)",)
        ends = [(-margin, 1.0 + margin)]
        return _section(objective, start, first[None], ends, resolution, label, marks, progress)
    first = first / length
    towards = points[2].to(start) - start
    along = float(towards @ first)
    second = towards - along * first
    second = second - (second @ first) * first  # once more: rounding of the first time
    height = float(torch.linalg.vector_norm(second))
    if height <= 1e-8 * length:
        raise OptionError(
            f"the points {', '.join(names)} lie on one line: there is no plane through them"
        )
    second = second / height
    low, high = min(0.0, along), max(length, along)
    wide, tall = margin * (high - low), margin * height
    ends = [(low - wide, high + wide), (-tall, height + tall)]
    corners = ((names[0], (0.0, 0.0)), (names[1], (length, 0.0)), (names[2], (along, height)))
    labels = (f"distance from {names[0]} towards {names[1]}", f"distance towards {names[2]}")
    directions = torch.stack([first, second])
    return _section(objective, start, directions, ends, resolution, labels, corners, progress)


def section_along(
    objective: Objective,
    directions: torch.Tensor,
    *,
    at: torch.Tensor | None = None,
    names: tuple[str, ...] = ("first direction", "second direction"),
    reach: float = 1.0,
    resolution: int | None = None,
    curvatures: tuple[float, ...] = (),
    progress: Progress = silent,
) -> LossSection:
    """The loss along one or two directions through a point, such as eigenvectors of the Hessian.

    Args:
        objective: the loss.
        directions: shape (1 or 2, n); each is scaled to length 1, so that coordinates are distances
            in parameter space.
        at: θ, shape (n,); default where the model stands.
        names: of the directions.
        reach: how far to go to each side.
        resolution: values along each axis; default 51 on a line, 25 on a plane; odd numbers have
            the point itself among them.
        curvatures: vᵀHv of each direction, if known: the quadratic model is drawn beside a line.
        progress: called with the evaluations.

    Cost: one pass over the data for each value, and one gradient.

    Raises:
        OptionError: the shapes do not fit, or an option has no usable value.
    """
    here = objective.parameters
    start = here if at is None else at.to(here)
    if directions.ndim != 2 or len(directions) not in (1, 2) or directions.shape[1] != len(here):
        raise OptionError(
            f"directions have shape {tuple(directions.shape)}; expected one or two rows of "
            f"{len(here)} parameters"
        )
    if not 0 < reach < math.inf:
        raise OptionError(f"reach is {reach}: give a positive distance, such as 1")
    lengths = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise OptionError("a direction is zero")
    units = (directions / lengths).to(here)
    section = _section(
        objective,
        start,
        units,
        [(-reach, reach)] * len(units),
        resolution,
        tuple(f"distance along {name}" for name in names[: len(units)]),
        (("θ", (0.0,) * len(units)),),
        progress,
    )
    gradient = objective.gradient(start)
    slopes = tuple(float(gradient @ unit) for unit in units)
    return replace(section, slopes=slopes, curvatures=tuple(map(float, curvatures)))


def _section(
    objective: Objective,
    start: torch.Tensor,
    directions: torch.Tensor,
    ends: list[tuple[float, float]],
    resolution: int | None,
    names: tuple[str, ...],
    marks: tuple[tuple[str, tuple[float, ...]], ...],
    progress: Progress,
) -> LossSection:
    size = resolution or (51 if len(directions) == 1 else 25)
    if size < 2:
        raise OptionError(f"resolution is {size}: give at least 2 values along an axis")
    objective.check(start)
    axes = tuple(np.linspace(low, high, size) for low, high in ends)
    values = np.empty([size] * len(axes))
    for done, place in enumerate(np.ndindex(values.shape)):
        theta = start.clone()
        for axis, direction, k in zip(axes, directions, place, strict=True):
            theta += float(axis[k]) * direction
        values[place] = objective.value(theta)
        progress("loss on the section", done + 1, values.size)
    return LossSection(
        coordinates=axes,
        values=values,
        origin=start.cpu().numpy(),
        directions=directions.cpu().numpy(),
        names=names,
        marks=marks,
        evaluations=values.size,
    )
