"""The results of sweeps: Parquet tables in, DuckDB views out.

The only room that knows Parquet and DuckDB. `schemas` declares the tables, `store` writes and
reads them, `compaction` gathers small files, `stores` opens object stores and `copies` keeps what a
node needs of them, `claim` says who runs a sweep, `work` what it computes, `views.sql` is every
query the app and report show.
"""
