"""Records: one HDF5 file a result, written so that a crash never leaves half of one."""

from hessscope.records.outputs import (
    check_distinct,
    numbered_path,
    prepare_output,
    write_atomically,
    write_or_number,
)
from hessscope.records.provenance import file_sha256, provenance
from hessscope.records.record import (
    SCHEMA_VERSION,
    Record,
    check_attributes,
    load_record,
    write_record,
    write_report,
)
from hessscope.records.store import State, Store, check_same, differences, lock, set_aside
from hessscope.records.summaries import Summarised

__all__ = [
    "SCHEMA_VERSION",
    "Record",
    "State",
    "Store",
    "Summarised",
    "check_attributes",
    "check_distinct",
    "check_same",
    "differences",
    "file_sha256",
    "load_record",
    "lock",
    "numbered_path",
    "prepare_output",
    "provenance",
    "set_aside",
    "write_atomically",
    "write_or_number",
    "write_record",
    "write_report",
]
