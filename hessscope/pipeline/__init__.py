"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.layers import LayerSpectrum
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
from hessscope.pipeline.views import Details, View

__all__ = [
    "BACKENDS",
    "PRESETS",
    "Details",
    "Inspection",
    "LayerSpectrum",
    "Opened",
    "Problem",
    "SpectrumReport",
    "SpectrumRequest",
    "Tell",
    "View",
    "inspect_checkpoint",
    "open_problem",
    "run_spectrum",
    "save_figure",
    "save_record",
    "spectrum",
    "untold",
]
