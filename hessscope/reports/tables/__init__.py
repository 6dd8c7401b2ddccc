"""Tables of records and of results, as pandas data frames."""

from hessscope.reports.tables.correlation import (
    RankCorrelation,
    epsilon_alpha_correlation,
    isotonic_curve,
    rank_correlation,
)
from hessscope.reports.tables.methods import methods_table
from hessscope.reports.tables.points import certified_points, distinct_points, spread_points
from hessscope.reports.tables.records import load_records
from hessscope.reports.tables.series import series_table
from hessscope.reports.tables.spectra import (
    degeneracy_table,
    inertia_table,
    layer_table,
    spectrum_summary,
)

__all__ = [
    "RankCorrelation",
    "certified_points",
    "degeneracy_table",
    "distinct_points",
    "epsilon_alpha_correlation",
    "inertia_table",
    "isotonic_curve",
    "layer_table",
    "load_records",
    "methods_table",
    "rank_correlation",
    "series_table",
    "spectrum_summary",
    "spread_points",
]
