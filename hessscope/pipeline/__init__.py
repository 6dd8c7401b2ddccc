"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.notices import Tell, untold
from hessscope.pipeline.problems import PRESETS, Opened, Problem, open_problem
from hessscope.pipeline.spectrum_reports import SpectrumReport
from hessscope.pipeline.spectrum_runs import (
    BACKENDS,
    SpectrumRequest,
    run_spectrum,
    save_figure,
    save_record,
    spectrum,
)

__all__ = [
    "BACKENDS",
    "PRESETS",
    "Inspection",
    "Opened",
    "Problem",
    "SpectrumReport",
    "SpectrumRequest",
    "Tell",
    "inspect_checkpoint",
    "open_problem",
    "run_spectrum",
    "save_figure",
    "save_record",
    "spectrum",
    "untold",
]
