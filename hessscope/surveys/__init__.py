"""Many searches for critical points: in parallel, each stored as it comes, and resumable."""

from hessscope.surveys.clusters import connect_dask
from hessscope.surveys.local import LocalProcesses
from hessscope.surveys.loop import run_survey
from hessscope.surveys.options import SurveyOptions
from hessscope.surveys.result import SurveyResult
from hessscope.surveys.starts import ORIGINS, Source

__all__ = [
    "ORIGINS",
    "LocalProcesses",
    "Source",
    "SurveyOptions",
    "SurveyResult",
    "connect_dask",
    "run_survey",
]
