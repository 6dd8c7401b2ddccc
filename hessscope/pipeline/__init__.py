"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.checkpoint_files import find_checkpoints
from hessscope.pipeline.inspections import Inspection, inspect_checkpoint
from hessscope.pipeline.layers import LayerSpectrum
from hessscope.pipeline.problems import Problem, open_problem
from hessscope.pipeline.refine_reports import RefinementReport
from hessscope.pipeline.refine_runs import (
    refine_checkpoint,
    run_refinement,
    save_refinement,
    save_trace_figure,
)
from hessscope.pipeline.sections import SectionReport, section
from hessscope.pipeline.series import compute_series, save_series_figure, spectrum_series
from hessscope.pipeline.series_reports import SeriesEntry, SeriesReport
from hessscope.pipeline.spectrum_reports import SpectrumReport
from hessscope.pipeline.spectrum_runs import (
    compute_spectrum,
    save_record,
    save_spectrum_figure,
    spectrum,
)
from hessscope.pipeline.survey_reports import SurveyReport
from hessscope.pipeline.surveys import (
    run_study,
    save_study_figure,
    survey_checkpoints,
)
from hessscope.pipeline.training_reports import TrainingReport, TrialReport
from hessscope.pipeline.training_runs import run_training, train_checkpoints

__all__ = [
    "Inspection",
    "LayerSpectrum",
    "Problem",
    "RefinementReport",
    "SectionReport",
    "SeriesEntry",
    "SeriesReport",
    "SpectrumReport",
    "SurveyReport",
    "TrainingReport",
    "TrialReport",
    "compute_series",
    "compute_spectrum",
    "find_checkpoints",
    "inspect_checkpoint",
    "open_problem",
    "refine_checkpoint",
    "run_refinement",
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
]
