"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.notices import Tell, untold
from hessscope.pipeline.problems import PRESETS, Opened, Problem, open_problem
from hessscope.pipeline.refine_reports import RefinementReport
from hessscope.pipeline.refine_requests import RefineRequest, default_outputs, known_methods
from hessscope.pipeline.refine_runs import (
    refine_checkpoint,
    run_refinement,
    save_refinement,
    save_trace_figure,
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
    "RefineRequest",
    "RefinementReport",
    "SpectrumReport",
    "SpectrumRequest",
    "Tell",
    "default_outputs",
    "inspect_checkpoint",
    "known_methods",
    "open_problem",
    "refine_checkpoint",
    "run_refinement",
    "run_spectrum",
    "save_figure",
    "save_record",
    "save_refinement",
    "save_trace_figure",
    "spectrum",
    "tolerance_sweep",
    "untold",
]
