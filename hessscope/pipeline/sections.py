"""From checkpoints to a section of the loss: between them, or along eigenvectors at one."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hessscope import records
from hessscope.backends import EigenvectorBackend
from hessscope.errors import AssumptionWarning, CheckpointError, OptionError, RecordError
from hessscope.objective import LossSection, section_along, section_between
from hessscope.operators import HessianOperator
from hessscope.pipeline import drawing
from hessscope.pipeline.notices import Tell, collected, finite, tell_all, untold
from hessscope.pipeline.problems import OpenedProblem, Problem, open_problem, read_problem
from hessscope.pipeline.repeats import threads
from hessscope.progress import Progress, silent
from hessscope.spectra import Eigenpairs

ENDS = ("highest", "lowest")
_NAMES = {"highest": "v(λ max)", "lowest": "v(λ min)"}


@dataclass(frozen=True)
class SectionRequest:
    """What ``hessscope section`` is asked for.

    Attributes:
        problem: the first checkpoint, data and loss.
        others: none, one or two further points: checkpoints of the same architecture, or records
            of critical points. With none the section is along eigenvectors of the Hessian.
        along: which eigenvectors, of "highest" and "lowest"; one makes a line, two a plane.
        resolution: values along each axis; default 51 on a line, 25 on a plane.
        margin: how far to go beyond points, in parts of their distance.
        reach: how far to go along eigenvectors.
        out: where the record goes; None for nowhere.
        plot: where the figure goes; None for nowhere.
        overwrite: existing files may be replaced.
    """

    problem: Problem
    others: tuple[Path, ...] = ()
    along: tuple[str, ...] = ENDS
    resolution: int | None = None
    margin: float | None = None
    reach: float = 1.0
    out: Path | None = None
    plot: Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if len(self.others) > 2:
            raise OptionError(
                f"a section goes through at most three points, got {1 + len(self.others)}"
            )
        if self.others and self.along != ENDS:
            raise OptionError("along chooses eigenvectors at one point; here are several points")
        if not self.along or len(set(self.along)) < len(self.along) or set(self.along) - set(ENDS):
            raise OptionError(
                f"along is {','.join(self.along)}: give highest, lowest or highest,lowest"
            )
        if self.margin is not None and not self.others:
            raise OptionError("margin is for sections between points; along eigenvectors: reach")
        inputs = (
            (self.problem.checkpoint, "the checkpoint"),
            (self.problem.data, "the data"),
            *((other, "a point of the section") for other in self.others),
        )
        records.check_distinct((self.out, self.plot), inputs)
        if self.out is not None:
            records.prepare_output(self.out, self.overwrite)
        if self.plot is not None:
            drawing.drawing().check_figure_path(self.plot, self.overwrite)


@dataclass(frozen=True, repr=False)
class SectionReport(records.Summarised):
    """Everything that ``hessscope section`` says.

    Attributes:
        opened: checkpoint, data and objective.
        section: the values of the loss.
        points: names of the files that the section goes through.
        eigenpairs: the eigenvectors that it goes along, one each.
        hvps: Hessian-vector products used for them.
        seconds: wall time of the whole.
        notes: what was found, assumed or done, to be shown.
        warnings: texts of the warnings given.
        record: where the record was written; None if it was not.
    """

    opened: OpenedProblem
    section: LossSection
    points: tuple[str, ...]
    eigenpairs: tuple[Eigenpairs, ...] = ()
    hvps: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    record: Path | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``hessscope section --json``."""
        section, pairs = self.section, self.eigenpairs
        return {
            **self._setting(),
            "coordinates": [axis.tolist() for axis in section.coordinates],
            "names": list(section.names),
            "values": _finite_values(section.values.tolist()),
            "marks": [{"name": name, "coordinates": list(at)} for name, at in section.marks],
            "barrier": section.barrier,
            "slopes": list(section.slopes) or None,
            "eigenvalues": [float(pair.values[0]) for pair in pairs] or None,
            "residuals": [float(pair.residuals[0]) for pair in pairs] or None,
        }

    def _setting(self) -> dict[str, Any]:
        return {
            "parameters": len(self.section.origin),
            "examples": len(self.opened.data),
            "points": list(self.points),
            "evaluations": self.section.evaluations,
            "hvps": self.hvps,
            "seconds": self.seconds,
            "dtype": str(self.opened.risk.dtype).removeprefix("torch."),
            **self.opened.as_dict(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "record": None if self.record is None else str(self.record),
        }

    def summary(self) -> dict[str, str]:
        """Which points or directions it goes through, and the range of the loss."""
        values = self.section.values
        shape = " x ".join(map(str, values.shape))
        facts = {
            "through": ", ".join(self.points),
            "axes": ", ".join(self.section.names),
            "loss": f"{shape} values from {values.min():.6g} to {values.max():.6g}",
        }
        return facts if self.record is None else {**facts, "record": str(self.record)}

    def to_record(self) -> records.Record:
        """The section with its setting and provenance."""
        pairs = self.eigenpairs
        return self.section.to_record(
            {
                **self._setting(),
                **self.opened.problem.attributes(),
                "eigenvalues": [float(pair.values[0]) for pair in pairs] or None,
                "residuals": [float(pair.residuals[0]) for pair in pairs] or None,
            }
        )


def section(
    checkpoint: str | Path,
    *others: str | Path,
    data: Any = None,
    along: str | Sequence[str] = ENDS,
    resolution: int | None = None,
    margin: float | None = None,
    reach: float = 1.0,
    preset: str | None = None,
    out: str | Path | None = None,
    plot: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    tell: Tell = untold,
    **options: Any,
) -> SectionReport:
    """Evaluate the loss between checkpoints, or along eigenvectors at one; as the command does.

    Args:
        checkpoint: path of the file.
        others: one more point for a line, two for a plane: checkpoints of the same architecture or
            records of critical points; none for a section along eigenvectors.
        data: as for ``Problem``; so are all further ``options``.
        along: "highest", "lowest" or both: eigenvectors of the largest and smallest eigenvalue.
        resolution: values along each axis; default 51 on a line, 25 on a plane. Each costs a pass
            over the data.
        margin: how far to go beyond points, in parts of their distance.
        reach: how far to go along eigenvectors.
        preset: "sankar2017" or "dauphin2014".
        out: where to write the record; by default none is written.
        plot: where to write the figure.
        overwrite: existing files may be replaced.
        progress: told of every stage.
        tell: told of every note as soon as it is known; ``print`` will do.

    Raises:
        HessscopeError: of the kind that fits; before any long work where possible.
    """
    problem = Problem.with_preset(preset, section, checkpoint=checkpoint, data=data, **options)
    request = SectionRequest(
        problem,
        others=tuple(map(Path, others)),
        along=(along,) if isinstance(along, str) else tuple(along),
        resolution=resolution,
        margin=margin,
        reach=reach,
        out=Path(out) if out else None,
        plot=Path(plot) if plot else None,
        overwrite=overwrite,
    )
    report = save_section(request, run_section(request, progress, tell))
    save_section_figure(request, report)
    return report


@threads(None)
def run_section(
    request: SectionRequest, progress: Progress = silent, tell: Tell = untold
) -> SectionReport:
    """Compute what is asked for; nothing is written: see ``save_section``."""
    began = time.perf_counter()
    request.check()
    with collected() as given:
        opened = open_problem(dataclasses.replace(request.problem, progress=progress))
        points = [opened.risk.parameters]
        points += [_point(path, request.problem, opened) for path in request.others]
    tell_all(tell, opened.notes)
    names = _point_names(request)
    if request.out is not None:
        known = {**opened.attributes(), "names": list(names)}
        places = {"record": str(request.out), "points": list(map(str, request.others))}
        records.check_attributes({**known, **places})
    pairs: tuple[Eigenpairs, ...] = ()
    hvps = 0
    with collected() as given_later:
        if request.others:
            found = section_between(
                opened.risk,
                points,
                names=names,
                resolution=request.resolution,
                margin=request.margin,
                progress=progress,
            )
        else:
            hessian = HessianOperator(opened.risk)
            pairs = tuple(
                EigenvectorBackend(1, end, seed=request.problem.seed).solve(hessian, progress)
                for end in request.along
            )
            hvps = hessian.hvps
            found = section_along(
                opened.risk,
                torch.stack([torch.from_numpy(pair.vectors[:, 0]) for pair in pairs]),
                names=tuple(_NAMES[pair.which] for pair in pairs),
                reach=request.reach,
                resolution=request.resolution,
                curvatures=tuple(float(pair.values[0]) for pair in pairs),
                progress=progress,
            )
    return SectionReport(
        opened,
        found,
        points=(str(request.problem.checkpoint), *map(str, request.others)),
        eigenpairs=pairs,
        hvps=hvps,
        seconds=time.perf_counter() - began,
        notes=opened.notes,
        warnings=(*given, *given_later),
    )


def save_section(request: SectionRequest, report: SectionReport) -> SectionReport:
    """Write the record where the request says; give the report with its path.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    return records.write_report(report, request.out, request.overwrite)


def save_section_figure(request: SectionRequest, report: SectionReport) -> Path | None:
    """Draw the figure where the request says; give its path.

    Raises:
        HessscopeError: it cannot be drawn, the disk is full or the folder cannot be written.
    """
    if request.plot is None:
        return None
    return drawing.save_figure(
        lambda room: room.section_figure(report.section), request.plot, request.overwrite
    )


def _point(path: Path, problem: Problem, opened: OpenedProblem) -> torch.Tensor:
    """θ of a further point, in the order of the first one's parameters."""
    layout = opened.risk.layout
    if path.suffix == ".h5":
        record = records.load_record(path, arrays=("parameters",))
        if "parameters" not in record.arrays:
            raise RecordError(
                f"{path} (kind '{record.kind}') holds no parameters: a section goes through "
                "checkpoints and records of critical points"
            )
        theta = torch.as_tensor(record.arrays["parameters"])
        if theta.shape != (layout.size,):
            raise RecordError(
                f"{path} has {theta.numel():,} parameters, {problem.checkpoint} has {layout.size:,}"
            )
        return theta
    # The architecture is the first one's; an activation is not needed for weights alone.
    model = read_problem(problem, path).model
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if shapes.get(name) != shape:
            raise CheckpointError(
                f"{path} has {'no' if name not in shapes else 'another shape of'} parameter "
                f"{name}: both networks must have the same architecture as {problem.checkpoint}"
            )
    first = dict(opened.risk.model.named_buffers())
    differing = [
        name
        for name, buffer in model.named_buffers()
        if name not in first or not torch.equal(buffer.double().cpu(), first[name].double().cpu())
    ]
    if differing:
        warnings.warn(
            f"{path} differs from {problem.checkpoint} in buffers too ({', '.join(differing[:3])}"
            f"{', …' if len(differing) > 3 else ''}): those of the first are used everywhere, so "
            "that the loss at the other end is not that network's own",
            AssumptionWarning,
            stacklevel=2,
        )
    return layout.flatten({name: p.detach() for name, p in parameters.items()}).double()


def _point_names(request: SectionRequest) -> tuple[str, ...]:
    """Names of the files, as far as they tell them apart; else letters."""
    paths = [Path(request.problem.checkpoint), *request.others]
    names = tuple(path.stem for path in paths)
    return names if len(set(names)) == len(names) else ("A", "B", "C")[: len(paths)]


def _finite_values(values: Any) -> Any:
    return [_finite_values(v) for v in values] if isinstance(values, list) else finite(values)
