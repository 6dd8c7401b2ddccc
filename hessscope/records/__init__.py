"""Records: one HDF5 file a result, written so that a crash never leaves half of one."""

from hessscope.records.outputs import check_distinct as check_distinct
from hessscope.records.outputs import numbered_path as numbered_path
from hessscope.records.outputs import prepare_output as prepare_output
from hessscope.records.outputs import write_atomically as write_atomically
from hessscope.records.outputs import write_or_number as write_or_number
from hessscope.records.record import Record as Record
from hessscope.records.record import Summarised as Summarised
from hessscope.records.record import check_attributes as check_attributes
from hessscope.records.record import file_sha256 as file_sha256
from hessscope.records.record import load_record as load_record
from hessscope.records.record import provenance as provenance
from hessscope.records.record import write_record as write_record
from hessscope.records.record import write_report as write_report
from hessscope.records.store import Store as Store
from hessscope.records.store import check_same as check_same
from hessscope.records.store import differences as differences
from hessscope.records.store import lock as lock
from hessscope.records.store import scratch_folder as scratch_folder
