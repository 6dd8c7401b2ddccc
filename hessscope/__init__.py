"""hessscope: Hessian spectra of trained PyTorch checkpoints.

import hessscope as hs

report = hs.spectrum("model.pt", data="mnist")
report.inertia.negative      # the index, with its interval
hs.plot_spectrum(report.result)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hessscope.errors import HessscopeError, HessscopeWarning

if TYPE_CHECKING:
    from hessscope.backends import *
    from hessscope.degeneracy import *
    from hessscope.loaders import *
    from hessscope.objective import *
    from hessscope.operators import *
    from hessscope.pipeline import *
    from hessscope.records import *
    from hessscope.refinement import *
    from hessscope.reports import *
    from hessscope.spectra import *
    from hessscope.surveys import *
    from hessscope.training import *
    from hessscope.watching import *

__version__ = "0.1.0"

# Rooms in the order in which a name is looked for; each is imported when that comes to it.
_ROOMS = (
    *("records", "objective", "operators", "spectra", "backends", "degeneracy", "loaders"),
    *("refinement", "training", "watching", "surveys", "pipeline", "reports"),
)

__all__ = [
    "AbsoluteRule",
    "BulkSplit",
    "Checkpoint",
    "CountInterval",
    "CriticalPoint",
    "Dataset",
    "DegeneracyAttribution",
    "Eigenpairs",
    "EigenvectorBackend",
    "EmpiricalFisherOperator",
    "EmpiricalRisk",
    "ExactBackend",
    "FiniteDifferenceHessian",
    "FisherOperator",
    "FunctionObjective",
    "GaussNewtonOperator",
    "HessianOperator",
    "HessscopeError",
    "HessscopeWarning",
    "Inertia",
    "Inspection",
    "LanczosBackend",
    "LossSection",
    "NoiseFloorRule",
    "Outliers",
    "Partition",
    "Plan",
    "PublishedCounts",
    "Record",
    "RefinementReport",
    "RelativeRule",
    "Sankar2017Rule",
    "SearchOptions",
    "SearchState",
    "SectionReport",
    "Semicircle",
    "SeriesReport",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "StudyOptions",
    "SurveyReport",
    "SurveyResult",
    "TrainingOptions",
    "TrainingReport",
    "TrainingResult",
    "Watch",
    "WidestGap",
    "attribute_degeneracy",
    "compare_with_semicircle",
    "figures",
    "find_outliers",
    "gradient_alignment",
    "inspect_checkpoint",
    "load_checkpoint",
    "load_data",
    "load_record",
    "load_records",
    "plot_spectrum",
    "refine",
    "refine_checkpoint",
    "report",
    "report_table",
    "run_survey",
    "save_figure",
    "section",
    "section_along",
    "section_between",
    "spectrum",
    "spectrum_series",
    "survey_checkpoints",
    "tables",
    "tolerance_sweep",
    "train",
    "train_checkpoints",
    "widest_gap",
    "write_record",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: torch, pandas and matplotlib take seconds."""
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(f"hessscope.{room}")
            if hasattr(module, name):
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module 'hessscope' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
