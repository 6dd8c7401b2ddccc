"""Surveys: many searches for critical points, in parallel and resumable."""

from hessscope.options.survey import StudyOptions
from hessscope.surveys.clusters import connect_dask
from hessscope.surveys.local import LocalProcesses
from hessscope.surveys.loop import run_survey
from hessscope.surveys.result import SurveyResult
from hessscope.surveys.starts import ORIGINS, Source

__all__ = [
    "ORIGINS",
    "LocalProcesses",
    "Source",
    "StudyOptions",
    "SurveyResult",
    "connect_dask",
    "run_survey",
]
