"""hessscope: Hessian spectra of trained PyTorch checkpoints.

import hessscope as hs

report = hs.spectrum("model.pt", data="mnist")
report.inertia.negative      # the index, with its interval
hs.plot_spectrum(report.result)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hessscope.backends import ExactBackend, LanczosBackend, PyHessianBackend, PyHessianResult
from hessscope.errors import HessscopeError, HessscopeWarning
from hessscope.loaders import Checkpoint, Dataset, load_checkpoint, load_data
from hessscope.objective import EmpiricalRisk, LossSection, section_along, section_between
from hessscope.operators import HessianOperator, Plan
from hessscope.pipeline import (
    Inspection,
    SectionReport,
    SpectrumReport,
    inspect_checkpoint,
    section,
    spectrum,
)
from hessscope.records import Record, load_record, write_record
from hessscope.spectra import CountInterval, Inertia, SpectralDensity, Spectrum

if TYPE_CHECKING:
    from hessscope.reports import (
        distinct_points,
        inertia_table,
        layer_table,
        load_records,
        paper_table,
        plot_eigenvalue_distributions,
        plot_epsilon_alpha,
        plot_section,
        plot_spectrum,
        rank_correlation,
        report,
        saddle_table,
        save_figure,
    )

__version__ = "0.1.0"

_DRAWING = frozenset(
    {
        "distinct_points",
        "inertia_table",
        "layer_table",
        "load_records",
        "paper_table",
        "plot_eigenvalue_distributions",
        "plot_epsilon_alpha",
        "plot_section",
        "plot_spectrum",
        "rank_correlation",
        "report",
        "saddle_table",
        "save_figure",
    }
)


def __getattr__(name: str) -> Any:
    """Import matplotlib, seaborn and pandas only when something is drawn: they take a second."""
    if name in _DRAWING:
        return getattr(importlib.import_module("hessscope.reports"), name)
    raise AttributeError(f"module 'hessscope' has no attribute '{name}'")


__all__ = [
    "Checkpoint",
    "CountInterval",
    "Dataset",
    "EmpiricalRisk",
    "ExactBackend",
    "HessianOperator",
    "HessscopeError",
    "HessscopeWarning",
    "Inertia",
    "Inspection",
    "LanczosBackend",
    "LossSection",
    "Plan",
    "PyHessianBackend",
    "PyHessianResult",
    "Record",
    "SectionReport",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "distinct_points",
    "inertia_table",
    "inspect_checkpoint",
    "layer_table",
    "load_checkpoint",
    "load_data",
    "load_record",
    "load_records",
    "paper_table",
    "plot_eigenvalue_distributions",
    "plot_epsilon_alpha",
    "plot_section",
    "plot_spectrum",
    "rank_correlation",
    "report",
    "saddle_table",
    "save_figure",
    "section",
    "section_along",
    "section_between",
    "spectrum",
    "write_record",
]
