"""Figures and tables of results; the only room that draws."""

from hessscope.reports.bulk_plot import plot_bulk
from hessscope.reports.correlation import RankCorrelation, rank_correlation
from hessscope.reports.distributions import distributions_figure, plot_eigenvalue_distributions
from hessscope.reports.documents import html_report
from hessscope.reports.epsilon_alpha import epsilon_alpha_figure, plot_epsilon_alpha
from hessscope.reports.figures import FIGURE_FORMATS, check_figure_path, save_figure
from hessscope.reports.layouts import LAYOUTS, report_table
from hessscope.reports.path_plot import plot_paths
from hessscope.reports.points import certified_points, distinct_points, spread_points
from hessscope.reports.record_tables import load_records
from hessscope.reports.reporting import (
    FIGURES,
    FORMATS,
    chosen_format,
    report,
    report_figure,
    report_object,
)
from hessscope.reports.saddles import paper_table, saddle_table
from hessscope.reports.section_plot import plot_section, section_figure
from hessscope.reports.series_plot import plot_series, series_table
from hessscope.reports.spectrum_plot import plot_spectrum, spectrum_figure
from hessscope.reports.sweep_plot import plot_tolerance_sweep
from hessscope.reports.tables import (
    degeneracy_table,
    inertia_table,
    layer_table,
    result_of,
    spectrum_summary,
)
from hessscope.reports.trace_plot import trace_figure
from hessscope.reports.trends import epsilon_alpha_correlation, isotonic_curve
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
