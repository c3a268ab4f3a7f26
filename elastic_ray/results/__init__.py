"""The results of sweeps: Parquet tables in, DuckDB views out.

The only room that knows Parquet and DuckDB. `schemas` declares the tables, `store` writes and
reads them, `compaction` gathers small files,
`claim` says who runs a sweep, `views.sql` is every query the app and report show.
"""

from __future__ import annotations

from .claim import HeldElsewhere, Lease, ask_to_stop, hold, holder
from .compaction import Compaction, compact
from .database import check_reads_only
from .schemas import QUANTITIES, TABLES, AlreadyRecorded, ResultsError
from .store import Results

__all__ = [
    "QUANTITIES",
    "TABLES",
    "AlreadyRecorded",
    "Compaction",
    "HeldElsewhere",
    "Lease",
    "Results",
    "ResultsError",
    "ask_to_stop",
    "check_reads_only",
    "compact",
    "hold",
    "holder",
]
