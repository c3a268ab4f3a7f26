"""The results of sweeps: Parquet tables in, DuckDB views out.

The only room that knows Parquet and DuckDB. `schemas` declares the tables, `store` writes and
reads them, `compaction` gathers small files, `stores` opens object stores and `copies` keeps what a
node needs of them, `claim` says who runs a sweep, `work` what it computes, `views.sql` is every
query the app and report show.
"""

from __future__ import annotations

from .claim import HeldElsewhere, Lease, alone_with_leases, ask_to_stop, hold, holder, running
from .compaction import Compaction, compact
from .database import check_reads_only
from .files import fetched
from .schemas import QUANTITIES, TABLES, AlreadyRecorded, ResultsError
from .store import Results
from .work import Claims

__all__ = [
    "QUANTITIES",
    "TABLES",
    "AlreadyRecorded",
    "Claims",
    "Compaction",
    "HeldElsewhere",
    "Lease",
    "Results",
    "ResultsError",
    "alone_with_leases",
    "ask_to_stop",
    "check_reads_only",
    "compact",
    "fetched",
    "hold",
    "holder",
    "running",
]
