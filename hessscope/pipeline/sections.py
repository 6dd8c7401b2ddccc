"""Sections of the loss: between checkpoints, or along eigenvectors at one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from hessscope import records
from hessscope.backends import EigenvectorBackend
from hessscope.errors import AssumptionWarning, CheckpointError, RecordError
from hessscope.loaders.checkpoints.checkpoint import IN_MEMORY, with_weights
from hessscope.objective import LossSection, section_along, section_between
from hessscope.operators import HessianOperator
from hessscope.options.fields import plain, takes
from hessscope.options.section import ENDS, SectionOptions
from hessscope.pipeline.outputs import Report, check_outputs, save_figure, save_record
from hessscope.pipeline.problems import OpenedProblem, collected, open_problem, read_problem
from hessscope.pipeline.repeats import threads
from hessscope.registry import PRODUCTS
from hessscope.spectra import Eigenpairs

_NAMES = {"highest": "v(λ max)", "lowest": "v(λ min)"}


@dataclass(frozen=True, repr=False)
class SectionReport(Report):
    """The result of ``hessscope section``.

    Attributes:
        opened: checkpoint, data and objective.
        section: the values of the loss.
        points: names of the files that the section goes through.
        eigenpairs: the eigenvectors that it goes along, one each.
        hvps: Hessian-vector products used for them.
        seconds: wall time of the whole.
    """

    opened: OpenedProblem
    section: LossSection
    points: tuple[str, ...]
    eigenpairs: tuple[Eigenpairs, ...] = ()
    hvps: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope section``."""
        section = self.section
        return {
            **self.opened.as_dict(),
            **self._facts(),
            "coordinates": [axis.tolist() for axis in section.coordinates],
            "names": list(section.names),
            "values": plain(section.values.tolist()),
            "marks": [{"name": name, "coordinates": list(at)} for name, at in section.marks],
            "barrier": section.barrier,
            "slopes": list(section.slopes) or None,
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "parameters": len(self.section.origin),
            "points": list(self.points),
            "evaluations": self.section.evaluations,
            "eigenvalues": [float(pair.values[0]) for pair in self.eigenpairs] or None,
            "residuals": [float(pair.residuals[0]) for pair in self.eigenpairs] or None,
            "hvps": self.hvps,
            "seconds": self.seconds,
            **self.remarks(),
        }

    def summary(self) -> dict[str, str]:
        """Which points or directions it goes through, and the range of the loss."""
        values = self.section.values
        shape = " x ".join(map(str, values.shape))
        return {
            "through": ", ".join(self.points),
            "axes": ", ".join(self.section.names),
            "loss": f"{shape} values from {values.min():.6g} to {values.max():.6g}",
            **self.written(),
        }

    def draw(self, room: ModuleType) -> Any:
        """The loss along the line, or over the plane."""
        return room.figures.draw("section", self.section)

    def to_record(self) -> records.Record:
        """The section with its setting and provenance."""
        return self.section.to_record({**self.opened.attributes(), **self._facts()})


@takes(SectionOptions)
def section(options: SectionOptions) -> SectionReport:
    """Evaluate the loss between checkpoints, or along eigenvectors at one; as the command does.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    return save_figure(options, save_record(options, run_section(options)))


@threads(None)
def run_section(options: SectionOptions) -> SectionReport:
    """Compute what is asked for; nothing is written: see ``save_record``."""
    began = time.perf_counter()
    _check(options)
    opened = open_problem(options, options.points[0])
    risk, others = opened.risk, options.points[1:]
    names = _point_names(options)
    if options.out is not None:
        known = {**opened.attributes(), "names": list(names), "record": str(options.out)}
        records.check_attributes(known)
    pairs: tuple[Eigenpairs, ...] = ()
    hvps = 0
    with collected() as given:
        if others:
            found = section_between(
                risk,
                [risk.parameters, *(_point(path, opened) for path in others)],
                names=names,
                resolution=options.resolution,
                margin=options.margin,
                progress=options.progress,
            )
        else:
            hessian: HessianOperator = PRODUCTS.find(options.products)(risk)
            pairs = tuple(
                EigenvectorBackend(1, end, seed=options.seed).solve(hessian, options.progress)
                for end in options.along or ENDS
            )
            hvps = hessian.hvps
            found = section_along(
                risk,
                torch.stack([torch.from_numpy(pair.vectors[:, 0]) for pair in pairs]),
                names=tuple(_NAMES[pair.which] for pair in pairs),
                reach=options.reach,
                resolution=options.resolution,
                curvatures=tuple(float(pair.values[0]) for pair in pairs),
                progress=options.progress,
            )
    return SectionReport(
        opened,
        found,
        (str(opened.checkpoint.path), *map(_called, others)),
        pairs,
        hvps,
        time.perf_counter() - began,
        notes=opened.notes,
        warnings=(*opened.warnings, *given),
    )


def _check(options: SectionOptions) -> None:
    """Refuse what cannot be written, before anything is read or computed."""
    first, *others = options.points
    inputs = [(first, "the checkpoint"), (options.data, "the data")]
    check_outputs(options, [*inputs, *((point, "a point of the section") for point in others)])


def _point(path: Any, opened: OpenedProblem) -> torch.Tensor:
    """θ of a further point, in the order of the first one's parameters."""
    layout, first = opened.risk.layout, opened.problem.checkpoint
    if isinstance(path, Path) and path.suffix == ".h5":
        record = records.load_record(path, arrays=("parameters",))
        if "parameters" not in record.arrays:
            raise RecordError(
                f"{path} (kind '{record.kind}') holds no parameters: a section goes through "
                "checkpoints and records of critical points"
            )
        theta = torch.as_tensor(record.arrays["parameters"])
        if theta.shape != (layout.size,):
            raise RecordError(
                f"{path} has {theta.numel():,} parameters, {first} has {layout.size:,}"
            )
        return theta
    # The architecture is the first one's; an activation is not needed for weights alone.
    if isinstance(path, Mapping):
        path = with_weights(opened.problem.model, path)
    here = isinstance(path, torch.nn.Module)
    model = path if here else read_problem(opened.problem, path).model
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if shapes.get(name) != shape:
            lacks = "no" if name not in shapes else "another shape of"
            raise CheckpointError(
                f"{_called(path)} has {lacks} parameter {name}: both networks must have the "
                f"same architecture as {first}"
            )
    buffers = dict(opened.risk.model.named_buffers())
    differing = [
        name
        for name, buffer in model.named_buffers()
        if name not in buffers
        or not torch.equal(buffer.double().cpu(), buffers[name].double().cpu())
    ]
    if differing:
        warnings.warn(
            f"{_called(path)} differs from {first} in buffers too ({', '.join(differing[:3])}"
            f"{', …' if len(differing) > 3 else ''}): those of the first are used everywhere, so "
            "that the loss at the other end is not that network's own",
            AssumptionWarning,
            stacklevel=2,
        )
    return layout.flatten({name: p.detach() for name, p in parameters.items()}).double()


def _called(point: Any) -> str:
    return IN_MEMORY if isinstance(point, (torch.nn.Module, Mapping)) else str(point)


def _point_names(options: SectionOptions) -> tuple[str, ...]:
    """Names of the files, as far as they tell them apart; else letters."""
    files = [isinstance(point, Path) for point in options.points]
    names = tuple(point.stem for point in options.points) if all(files) else ()
    return names if len(set(names)) == len(files) else ("A", "B", "C")[: len(files)]
