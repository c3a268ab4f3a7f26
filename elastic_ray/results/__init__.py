"""The results of sweeps: Parquet tables in, DuckDB views out.

The only room that knows Parquet and DuckDB. `schemas` declares the tables, `store` writes and
reads them, `compaction` gathers small files, `views.sql` is every query the app and report show.
"""

from __future__ import annotations

from .compaction import Compaction, compact
from .database import check_reads_only
from .schemas import QUANTITIES, TABLES, AlreadyRecorded, ResultsError
from .store import Results

__all__ = [
    "QUANTITIES",
    "TABLES",
    "AlreadyRecorded",
    "Compaction",
    "Results",
    "ResultsError",
    "check_reads_only",
    "compact",
]
