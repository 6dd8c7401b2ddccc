"""Figures of results, for notebooks and for files."""

from hessscope.reports.figures.bulk import plot_bulk as plot_bulk
from hessscope.reports.figures.distributions import (
    plot_eigenvalue_distributions as plot_eigenvalue_distributions,
)
from hessscope.reports.figures.epsilon_alpha import plot_epsilon_alpha as plot_epsilon_alpha
from hessscope.reports.figures.parts import plot_parts as plot_parts
from hessscope.reports.figures.paths import plot_paths as plot_paths
from hessscope.reports.figures.section import plot_section as plot_section
from hessscope.reports.figures.series import plot_series as plot_series
from hessscope.reports.figures.spectrum import plot_spectrum as plot_spectrum
from hessscope.reports.figures.style import check_figure_path as check_figure_path
from hessscope.reports.figures.style import draw as draw
from hessscope.reports.figures.style import save_figure as save_figure
from hessscope.reports.figures.style import styled as styled
from hessscope.reports.figures.sweep import plot_tolerance_sweep as plot_tolerance_sweep
from hessscope.reports.figures.trace import plot_trace as plot_trace
