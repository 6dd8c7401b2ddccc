"""``hessscope spectrum``: eigenvalues, index and degeneracy of a checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hessscope.options.fields import OUTPUT, option
from hessscope.options.spectrum import SpectrumOptions
from hessscope_cli.commands import VerboseScreen, answer, with_default_out

if TYPE_CHECKING:
    from hessscope.pipeline import SpectrumReport

EXAMPLES = """
hessscope spectrum model.pt --data mnist

hessscope spectrum model.pt --data mnist --subset 5000 --plot spectrum.png

hessscope spectrum resnet.th --model resnet.py:resnet20 --data cifar10 --backend lanczos

hessscope spectrum model.pt --data mnist --backend lanczos --tolerance 1e-3 --target-width 0.1

hessscope spectrum model.pt --data mnist --explain

hessscope spectrum model.pt --data mnist --tolerance 1e-8 --sweep

hessscope spectrum model.pt --preset sankar2017 --zero-rule sankar2017

hessscope spectrum model.pt --data mnist --operator gauss_newton

hessscope spectrum model.pt --data mnist --by-layer --params '*.weight'

hessscope spectrum model.pt --data digits --json | jq .index

hessscope spectrum run/*.pt --plot training.png
"""


@dataclass(frozen=True, kw_only=True)
class SpectrumScreen(VerboseScreen):
    """The same, and how many tolerances are shown."""

    sweep: bool = option(
        False, "Show the counts at every tolerance in the sweep (four per decade).", None, OUTPUT
    )


def command(options: SpectrumOptions, screen: SpectrumScreen) -> int | None:
    """Hessian spectrum of a checkpoint: index and degeneracy, with confidence intervals.

    Loads MODEL and the data, differentiates the mean loss twice, and counts the
    negative, zero and positive eigenvalues of its Hessian. Writes a record
    (HDF5) and, on request, a figure. Of several checkpoints it makes one record,
    one table and one figure against the epoch.
    """
    from hessscope.pipeline import find_checkpoints

    found = find_checkpoints(options.checkpoint)
    if len(options.checkpoint) > 1 or found != (Path(options.checkpoint[0]),):
        from hessscope_cli import series

        return series.command(options, screen)
    show(dataclasses.replace(options, checkpoint=found[0]), screen)
    return None


def show(options: SpectrumOptions, screen: SpectrumScreen) -> SpectrumReport:
    """Compute the spectrum of one checkpoint, write and show it."""
    from hessscope.pipeline import compute_spectrum, save_record
    from hessscope.pipeline.outputs import save_figure
    from hessscope_cli.spectrum_tables import tables

    return answer(
        with_default_out(options, options.checkpoint, "spectrum"),
        screen,
        compute_spectrum,
        save_record,
        save_figure,
        show=lambda report: tables(report, verbose=screen.verbose, sweep=screen.sweep),
    )
