"""Figures of results, for notebooks and for files."""

from hessscope.reports.figures.bulk import plot_bulk
from hessscope.reports.figures.distributions import plot_eigenvalue_distributions
from hessscope.reports.figures.epsilon_alpha import plot_epsilon_alpha
from hessscope.reports.figures.paths import plot_paths
from hessscope.reports.figures.section import plot_section
from hessscope.reports.figures.series import plot_series
from hessscope.reports.figures.spectrum import plot_spectrum
from hessscope.reports.figures.style import check_figure_path, draw, save_figure, styled
from hessscope.reports.figures.sweep import plot_tolerance_sweep
from hessscope.reports.figures.trace import plot_trace

__all__ = [
    "check_figure_path",
    "draw",
    "plot_bulk",
    "plot_eigenvalue_distributions",
    "plot_epsilon_alpha",
    "plot_paths",
    "plot_section",
    "plot_series",
    "plot_spectrum",
    "plot_tolerance_sweep",
    "plot_trace",
    "save_figure",
    "styled",
]
