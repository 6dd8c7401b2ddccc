"""What ``hessscope spectrum`` is asked for, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hessscope import backends, records
from hessscope.errors import OptionError, UnknownNameError
from hessscope.pipeline.drawing import drawing
from hessscope.pipeline.problems import Problem
from hessscope.pipeline.views import View
from hessscope.spectra import NoiseFloorRule, Sankar2017Rule, ZeroRule

BACKENDS = ("auto", "exact", "lanczos", "pyhessian")


@dataclass(frozen=True)
class SpectrumRequest:
    """What ``hessscope spectrum`` is asked for, with the backends in their frozen form.

    Attributes:
        problem: checkpoint, data and loss.
        backend: "auto", "exact", "lanczos" or "pyhessian".
        exact: the exact backend, if it is taken.
        sampled: the Lanczos backend, if it is taken.
        explain: find out why eigenvalues are zero.
        zero_rule: what counts as zero; default |λ| ≤ 2δ.
        plan: a record; what was decided by measuring there is not measured again.
        out: where the record goes; None for nowhere.
        plot: where the figure goes; None for nowhere.
        overwrite: existing files may be replaced.
        save_every: seconds after which the state of long work is saved beside ``out``; 0 for never.
        view: which matrix, of which parameters, and what else of it.
    """

    problem: Problem
    backend: str = "auto"
    exact: backends.ExactBackend = field(default_factory=backends.ExactBackend)
    sampled: backends.LanczosBackend = field(default_factory=backends.LanczosBackend)
    explain: bool = False
    zero_rule: ZeroRule = field(default_factory=NoiseFloorRule)
    plan: Path | None = None
    out: Path | None = None
    plot: Path | None = None
    overwrite: bool = False
    save_every: float = 600.0
    view: View = field(default_factory=View)

    def check(self) -> None:
        """Refuse what cannot be done or written, before anything is read or computed.

        Raises:
            OptionError: an option means nothing, or an output file is there already.
            RecordError: an output cannot be written.
        """
        if self.backend not in BACKENDS:
            raise UnknownNameError("backend", self.backend, BACKENDS)
        if isinstance(self.zero_rule, Sankar2017Rule) and self.backend not in ("auto", "exact"):
            raise needs_exact(self.backend)
        self.view.check(self.backend)
        if self.sampled.target_width is not None and self.backend not in ("auto", "lanczos"):
            raise OptionError(
                f"`target_width` is for sampled counts, and the backend is {self.backend}: leave "
                "it out, or take `backend=lanczos`"
            )
        if self.plot is not None and self.backend == "pyhessian":
            raise OptionError(
                "the pyhessian backend gives no spectrum to plot: leave out --plot, or take "
                "--backend exact or lanczos"
            )
        if self.explain and self.backend == "pyhessian":
            raise OptionError(
                "the pyhessian backend counts no zeros that could be explained: leave out "
                "--explain, or take --backend exact or lanczos"
            )
        if self.explain and not self.view.whole_hessian:
            raise OptionError(
                "--explain speaks of the zeros of the whole Hessian: leave out --operator and "
                "--params"
            )
        if self.view.semicircle and self.plot is None:
            raise OptionError(
                "--semicircle draws over a figure, and there is none: give --plot FILE, or take "
                "--bulk for the comparison in numbers"
            )
        if not 0 <= self.save_every < float("inf"):
            raise OptionError(
                f"save_every is {self.save_every}: give a time of at least 0, which is never"
            )
        inputs = (
            (self.problem.checkpoint, "the checkpoint"),
            (self.problem.data, "the data"),
            (self.plan, "the record whose plan is repeated"),
        )
        records.check_distinct((self.out, self.plot), inputs)
        if self.out is not None:
            records.prepare_output(self.out, self.overwrite)
        if self.plot is not None:
            drawing().figures.check_figure_path(self.plot, self.overwrite)


def needs_exact(backend: str) -> OptionError:
    """What to say where the zero rule sankar2017 meets another backend."""
    return OptionError(
        f"the zero rule sankar2017 counts the rows of the matrix, and the backend is {backend}: "
        "take --backend exact"
    )
