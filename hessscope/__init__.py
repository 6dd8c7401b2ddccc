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
from hessscope.objective import EmpiricalRisk, FunctionObjective
from hessscope.operators import HessianOperator, Plan
from hessscope.pipeline import (
    Inspection,
    RefinementReport,
    SpectrumReport,
    inspect_checkpoint,
    refine_checkpoint,
    spectrum,
)
from hessscope.records import Record, load_record, write_record
from hessscope.refinement import CriticalPoint, RefinementOptions, SearchState, refine
from hessscope.spectra import CountInterval, Inertia, SpectralDensity, Spectrum

if TYPE_CHECKING:
    from hessscope.reports import inertia_table, layer_table, plot_spectrum, save_figure

__version__ = "0.1.0"

_DRAWING = frozenset({"inertia_table", "layer_table", "plot_spectrum", "save_figure"})


def __getattr__(name: str) -> Any:
    """Import matplotlib, seaborn and pandas only when something is drawn: they take a second."""
    if name in _DRAWING:
        return getattr(importlib.import_module("hessscope.reports"), name)
    raise AttributeError(f"module 'hessscope' has no attribute '{name}'")


__all__ = [
    "Checkpoint",
    "CountInterval",
    "CriticalPoint",
    "Dataset",
    "EmpiricalRisk",
    "ExactBackend",
    "FunctionObjective",
    "HessianOperator",
    "HessscopeError",
    "HessscopeWarning",
    "Inertia",
    "Inspection",
    "LanczosBackend",
    "Plan",
    "PyHessianBackend",
    "PyHessianResult",
    "Record",
    "RefinementOptions",
    "RefinementReport",
    "SearchState",
    "SpectralDensity",
    "Spectrum",
    "SpectrumReport",
    "inertia_table",
    "inspect_checkpoint",
    "layer_table",
    "load_checkpoint",
    "load_data",
    "load_record",
    "plot_spectrum",
    "refine",
    "refine_checkpoint",
    "save_figure",
    "spectrum",
    "write_record",
]
