"""Figures and tables of results; the only room that draws."""

from hessscope.reports.figures import FIGURE_FORMATS, check_figure_path, save_figure
from hessscope.reports.spectrum_plot import plot_spectrum, plot_tolerance_sweep, spectrum_figure
from hessscope.reports.tables import inertia_table, layer_table, result_of, spectrum_summary
from hessscope.reports.trace_plot import trace_figure

__all__ = [
    "FIGURE_FORMATS",
    "check_figure_path",
    "inertia_table",
    "layer_table",
    "plot_spectrum",
    "plot_tolerance_sweep",
    "result_of",
    "save_figure",
    "spectrum_figure",
    "spectrum_summary",
    "trace_figure",
]
