"""The one-liners over a path: what the commands do, as functions."""

from hessscope.pipeline.checkpoint_files import find_checkpoints as find_checkpoints
from hessscope.pipeline.inspections import Inspection as Inspection
from hessscope.pipeline.inspections import inspect_checkpoint as inspect_checkpoint
from hessscope.pipeline.part_spectra import LayerSpectrum as LayerSpectrum
from hessscope.pipeline.problems import Problem as Problem
from hessscope.pipeline.problems import open_problem as open_problem
from hessscope.pipeline.refine_jobs import RefinementReport as RefinementReport
from hessscope.pipeline.refine_runs import refine_checkpoint as refine_checkpoint
from hessscope.pipeline.run_folders import TrainingReport as TrainingReport
from hessscope.pipeline.run_folders import TrialReport as TrialReport
from hessscope.pipeline.sections import SectionReport as SectionReport
from hessscope.pipeline.sections import section as section
from hessscope.pipeline.series import compute_series as compute_series
from hessscope.pipeline.series import spectrum_series as spectrum_series
from hessscope.pipeline.series_reports import SeriesEntry as SeriesEntry
from hessscope.pipeline.series_reports import SeriesReport as SeriesReport
from hessscope.pipeline.spectrum_reports import SpectrumReport as SpectrumReport
from hessscope.pipeline.spectrum_runs import compute_spectrum as compute_spectrum
from hessscope.pipeline.spectrum_runs import save_record as save_record
from hessscope.pipeline.spectrum_runs import spectrum as spectrum
from hessscope.pipeline.surveys import SurveyReport as SurveyReport
from hessscope.pipeline.surveys import survey_checkpoints as survey_checkpoints
from hessscope.pipeline.training_runs import train_checkpoints as train_checkpoints
