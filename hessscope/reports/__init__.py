"""Figures, tables and pages of results; the only room that draws."""

from hessscope.reports import figures, tables
from hessscope.reports.build import make_report, report, report_figure, report_table
from hessscope.reports.figures import plot_spectrum, save_figure
from hessscope.reports.layouts.table import ReportTable
from hessscope.reports.pages import html_page
from hessscope.reports.tables import load_records
from hessscope.reports.writers import format_table

__all__ = [
    "ReportTable",
    "figures",
    "format_table",
    "html_page",
    "load_records",
    "make_report",
    "plot_spectrum",
    "report",
    "report_figure",
    "report_table",
    "save_figure",
    "tables",
]
