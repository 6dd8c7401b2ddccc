"""hessscope: Hessian spectra of trained PyTorch checkpoints.

import hessscope as hs

report = hs.spectrum("model.pt", data="mnist")
report.inertia.negative      # the index, with its interval
hs.plot_spectrum(report.result)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hessscope.backends import (
    EigenvectorBackend,
    ExactBackend,
    LanczosBackend,
    PyHessianBackend,
    PyHessianResult,
)
from hessscope.errors import HessscopeError, HessscopeWarning
from hessscope.loaders import Checkpoint, Dataset, load_checkpoint, load_data
from hessscope.objective import (
    EmpiricalRisk,
    FunctionObjective,
    LossSection,
    section_along,
    section_between,
)
from hessscope.operators import (
    EmpiricalFisherOperator,
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    Plan,
)
from hessscope.pipeline import (
    Inspection,
    RefinementReport,
    SectionReport,
    SeriesReport,
    SpectrumReport,
    SurveyReport,
    TrainingReport,
    inspect_checkpoint,
    refine_checkpoint,
    section,
    spectrum,
    spectrum_series,
    survey_checkpoints,
    train_checkpoints,
)
from hessscope.records import Record, load_record, write_record
from hessscope.refinement import CriticalPoint, RefinementOptions, SearchState, refine
from hessscope.spectra import (
    AbsoluteRule,
    BulkSplit,
    CountInterval,
    DegeneracyAttribution,
    Eigenpairs,
    Inertia,
    NoiseFloorRule,
    Outliers,
    PublishedCounts,
    RelativeRule,
    Sankar2017Rule,
    Semicircle,
    SpectralDensity,
    Spectrum,
    WidestGap,
    attribute_degeneracy,
    compare_with_semicircle,
    find_outliers,
    gradient_alignment,
    tolerance_sweep,
    widest_gap,
)
from hessscope.surveys import SurveyOptions, SurveyResult, run_survey
from hessscope.training import TrainingOptions, TrainingResult, train

if TYPE_CHECKING:
    from hessscope.reports import (
        degeneracy_table,
        distinct_points,
        inertia_table,
        layer_table,
        load_records,
        paper_table,
        plot_bulk,
        plot_eigenvalue_distributions,
        plot_epsilon_alpha,
        plot_paths,
        plot_section,
        plot_series,
        plot_spectrum,
        plot_tolerance_sweep,
        rank_correlation,
        report,
        saddle_table,
        save_figure,
        series_table,
    )

__version__ = "0.1.0"

_DRAWING = frozenset(
    {
        "degeneracy_table",
        "distinct_points",
        "inertia_table",
        "layer_table",
        "load_records",
        "paper_table",
        "plot_bulk",
        "plot_eigenvalue_distributions",
        "plot_epsilon_alpha",
        "plot_paths",
        "plot_section",
        "plot_series",
        "plot_spectrum",
        "plot_tolerance_sweep",
        "rank_correlation",
        "report",
        "saddle_table",
        "save_figure",
        "series_table",
    }
)


def __getattr__(name: str) -> Any:
    """Import matplotlib, seaborn and pandas only when something is drawn: they take a second."""
    if name in _DRAWING:
        return getattr(importlib.import_module("hessscope.reports"), name)
    raise AttributeError(f"module 'hessscope' has no attribute '{name}'")


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
    "Plan",
    "PublishedCounts",
    "PyHessianBackend",
    "PyHessianResult",
    "Record",
    "RefinementOptions",
    "RefinementReport",
    "RelativeRule",
    "Sankar2017Rule",
    "SearchState",
    "SectionReport",
    "Semicircle",
    "SeriesReport",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "SurveyOptions",
    "SurveyReport",
    "SurveyResult",
    "TrainingOptions",
    "TrainingReport",
    "TrainingResult",
    "WidestGap",
    "attribute_degeneracy",
    "compare_with_semicircle",
    "degeneracy_table",
    "distinct_points",
    "find_outliers",
    "gradient_alignment",
    "inertia_table",
    "inspect_checkpoint",
    "layer_table",
    "load_checkpoint",
    "load_data",
    "load_record",
    "load_records",
    "paper_table",
    "plot_bulk",
    "plot_eigenvalue_distributions",
    "plot_epsilon_alpha",
    "plot_paths",
    "plot_section",
    "plot_series",
    "plot_spectrum",
    "plot_tolerance_sweep",
    "rank_correlation",
    "refine",
    "refine_checkpoint",
    "report",
    "run_survey",
    "saddle_table",
    "save_figure",
    "section",
    "section_along",
    "section_between",
    "series_table",
    "spectrum",
    "spectrum_series",
    "survey_checkpoints",
    "tolerance_sweep",
    "train",
    "train_checkpoints",
    "widest_gap",
    "write_record",
]
