"""Figures and tables of results; the only room that draws."""

from hessscope.reports.bulk_plot import (
    plot_bulk,
)
from hessscope.reports.figures import (
    FIGURE_FORMATS,
    check_figure_path,
    save_figure,
)
from hessscope.reports.series_plot import (
    plot_series,
    series_table,
)
from hessscope.reports.spectrum_plot import (
    plot_spectrum,
    spectrum_figure,
)
from hessscope.reports.sweep_plot import (
    plot_tolerance_sweep,
)
from hessscope.reports.tables import (
    degeneracy_table,
    inertia_table,
    layer_table,
    result_of,
    spectrum_summary,
)

__all__ = [
    "FIGURE_FORMATS",
    "check_figure_path",
    "degeneracy_table",
    "inertia_table",
    "layer_table",
    "plot_bulk",
    "plot_series",
    "plot_spectrum",
    "plot_tolerance_sweep",
    "result_of",
    "save_figure",
    "series_table",
    "spectrum_figure",
    "spectrum_summary",
]
