"""Curvature and the edge of stability while a network trains."""

from hessscope.options.watch import WatchOptions as WatchOptions
from hessscope.watching.readings import End as End
from hessscope.watching.readings import Reading as Reading
from hessscope.watching.watch import Watch as Watch
