"""The results of sweeps: the only room that knows Parquet and DuckDB.

Rows go in as Parquet files, one per state and table, and come out through SQL views.

| file | holds |
|---|---|
| `store` | `Results`: writes and reads the tables, queries the views |
| `errors`, `tables`, `schemas` | the errors, what a table is, the declared tables |
| `state_rows` | the rows of the table `states` |
| `arrow_rows` | rows -> checked Arrow tables |
| `file_names`, `parquet_files`, `partitions` | the files: names, content, where a row is |
| `compaction` | merges many small files into one |
| `views.sql`, `views`, `database`, `statements` | the views, and how DuckDB reads them |
| `sandbox` | runs one untrusted SQL statement |
| `storage/` | files: a local folder or an object store, with a cache on each node |
| `leases/` | who runs which sweep, and who computes which state |
"""
