"""Figures, tables and pages of results; the only room that draws."""

from hessscope.reports import figures as figures
from hessscope.reports import tables as tables
from hessscope.reports.build import make_report as make_report
from hessscope.reports.build import report as report
from hessscope.reports.build import report_figure as report_figure
from hessscope.reports.build import report_table as report_table
from hessscope.reports.figures import plot_spectrum as plot_spectrum
from hessscope.reports.figures import save_figure as save_figure
from hessscope.reports.layouts.table import ReportTable as ReportTable
from hessscope.reports.pages import html_page as html_page
from hessscope.reports.tables import load_records as load_records
from hessscope.reports.writers import format_table as format_table
