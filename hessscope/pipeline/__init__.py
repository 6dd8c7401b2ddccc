"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.notices import Tell, untold
from hessscope.pipeline.problems import PRESETS, Opened, Problem, open_problem
from hessscope.pipeline.sections import (
    SectionReport,
    SectionRequest,
    run_section,
    save_section,
    section,
)
from hessscope.pipeline.spectrum_reports import SpectrumReport, tolerance_sweep
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
    "SectionReport",
    "SectionRequest",
    "SpectrumReport",
    "SpectrumRequest",
    "Tell",
    "inspect_checkpoint",
    "open_problem",
    "run_section",
    "run_spectrum",
    "save_figure",
    "save_record",
    "save_section",
    "section",
    "spectrum",
    "tolerance_sweep",
    "untold",
]
