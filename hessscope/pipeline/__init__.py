"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.layers import LayerSpectrum
from hessscope.pipeline.notices import Tell, untold
from hessscope.pipeline.problems import PRESETS, OpenedProblem, Problem, open_problem
from hessscope.pipeline.refine_reports import RefinementReport
from hessscope.pipeline.refine_runs import (
    refine_checkpoint,
    run_refinement,
    save_refinement,
    save_trace_figure,
)
from hessscope.pipeline.sections import SectionReport, section
from hessscope.pipeline.series import (
    SeriesRequest,
    find_checkpoints,
    run_series,
    save_series_figure,
    spectrum_series,
    with_default_record,
)
from hessscope.pipeline.series_reports import SeriesEntry, SeriesReport
from hessscope.pipeline.spectrum_reports import SpectrumReport
from hessscope.pipeline.spectrum_requests import BACKENDS, SpectrumRequest
from hessscope.pipeline.spectrum_runs import (
    run_spectrum,
    save_record,
    save_spectrum_figure,
    spectrum,
)
from hessscope.pipeline.survey_reports import SurveyReport
from hessscope.pipeline.surveys import (
    first_checkpoint,
    run_study,
    save_study_figure,
    survey_checkpoints,
)
from hessscope.pipeline.training_reports import TrainingReport, TrialReport
from hessscope.pipeline.training_runs import run_training, train_checkpoints
from hessscope.pipeline.views import Details, View

__all__ = [
    "BACKENDS",
    "PRESETS",
    "Details",
    "Inspection",
    "LayerSpectrum",
    "OpenedProblem",
    "Problem",
    "RefinementReport",
    "SectionReport",
    "SeriesEntry",
    "SeriesReport",
    "SeriesRequest",
    "SpectrumReport",
    "SpectrumRequest",
    "SurveyReport",
    "Tell",
    "TrainingReport",
    "TrialReport",
    "View",
    "find_checkpoints",
    "first_checkpoint",
    "inspect_checkpoint",
    "open_problem",
    "refine_checkpoint",
    "run_refinement",
    "run_series",
    "run_spectrum",
    "run_study",
    "run_training",
    "save_record",
    "save_refinement",
    "save_series_figure",
    "save_spectrum_figure",
    "save_study_figure",
    "save_trace_figure",
    "section",
    "spectrum",
    "spectrum_series",
    "survey_checkpoints",
    "train_checkpoints",
    "untold",
    "with_default_record",
]
