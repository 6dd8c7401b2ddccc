"""Figures and tables of results; the only room that draws."""

from hessscope.reports.build import (
    FIGURES,
    FORMATS,
    chosen_format,
    report,
    report_figure,
    report_object,
)
from hessscope.reports.figures.bulk import plot_bulk
from hessscope.reports.figures.distributions import (
    distributions_figure,
    plot_eigenvalue_distributions,
)
from hessscope.reports.figures.epsilon_alpha import epsilon_alpha_figure, plot_epsilon_alpha
from hessscope.reports.figures.paths import plot_paths
from hessscope.reports.figures.section import plot_section, section_figure
from hessscope.reports.figures.series import plot_series, series_table
from hessscope.reports.figures.spectrum import plot_spectrum, spectrum_figure
from hessscope.reports.figures.style import FIGURE_FORMATS, check_figure_path, save_figure
from hessscope.reports.figures.sweep import plot_tolerance_sweep
from hessscope.reports.figures.trace import trace_figure
from hessscope.reports.layouts.layouts import LAYOUTS, report_table
from hessscope.reports.layouts.methods import paper_table, saddle_table
from hessscope.reports.pages.documents import html_report
from hessscope.reports.tables.correlation import RankCorrelation, rank_correlation
from hessscope.reports.tables.points import certified_points, distinct_points, spread_points
from hessscope.reports.tables.records import load_records
from hessscope.reports.tables.spectra import (
    degeneracy_table,
    inertia_table,
    layer_table,
    result_of,
    spectrum_summary,
)
from hessscope.reports.tables.trends import epsilon_alpha_correlation, isotonic_curve
from hessscope.reports.writers import TABLE_FORMATS, ReportTable, format_table

__all__ = [
    "FIGURES",
    "FIGURE_FORMATS",
    "FORMATS",
    "LAYOUTS",
    "TABLE_FORMATS",
    "RankCorrelation",
    "ReportTable",
    "certified_points",
    "check_figure_path",
    "chosen_format",
    "degeneracy_table",
    "distinct_points",
    "distributions_figure",
    "epsilon_alpha_correlation",
    "epsilon_alpha_figure",
    "format_table",
    "html_report",
    "inertia_table",
    "isotonic_curve",
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
    "report_figure",
    "report_object",
    "report_table",
    "result_of",
    "saddle_table",
    "save_figure",
    "section_figure",
    "series_table",
    "spectrum_figure",
    "spectrum_summary",
    "spread_points",
    "trace_figure",
]
