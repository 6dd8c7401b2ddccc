"""Tables of records and of results, as pandas data frames."""

from hessscope.reports.tables.correlation import RankCorrelation as RankCorrelation
from hessscope.reports.tables.correlation import (
    epsilon_alpha_correlation as epsilon_alpha_correlation,
)
from hessscope.reports.tables.correlation import isotonic_curve as isotonic_curve
from hessscope.reports.tables.correlation import rank_correlation as rank_correlation
from hessscope.reports.tables.parts import distance_table as distance_table
from hessscope.reports.tables.parts import part_results as part_results
from hessscope.reports.tables.parts import parts_table as parts_table
from hessscope.reports.tables.points import certified_points as certified_points
from hessscope.reports.tables.points import distinct_points as distinct_points
from hessscope.reports.tables.points import methods_table as methods_table
from hessscope.reports.tables.points import series_table as series_table
from hessscope.reports.tables.points import spread_points as spread_points
from hessscope.reports.tables.records import as_points as as_points
from hessscope.reports.tables.records import load_records as load_records
from hessscope.reports.tables.spectra import degeneracy_table as degeneracy_table
from hessscope.reports.tables.spectra import inertia_table as inertia_table
from hessscope.reports.tables.spectra import layer_table as layer_table
from hessscope.reports.tables.spectra import spectrum_summary as spectrum_summary
