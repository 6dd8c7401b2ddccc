"""Surveys: many searches for critical points, in parallel and resumable."""

from hessscope.options.survey import StudyOptions as StudyOptions
from hessscope.surveys.jobs import LocalProcesses as LocalProcesses
from hessscope.surveys.loop import run_survey as run_survey
from hessscope.surveys.starts import Source as Source
from hessscope.surveys.study import SurveyResult as SurveyResult
from hessscope.surveys.study import connect_dask as connect_dask
