"""The results of sweeps. Only this package uses DuckDB and knows the Parquet files.

Rows go in as Parquet files, one per state and table, and come out through SQL views.

| file | holds |
|---|---|
| `store` | `Results`: writes and reads the tables, queries the views |
| `errors`, `tables`, `schemas` | error classes, the type of a table, the declared tables |
| `state_rows` | the rows of the table `states` |
| `arrow_rows` | converts rows to validated Arrow tables |
| `file_names`, `parquet_files`, `partitions` | the files: names, content, which file holds a row |
| `compaction` | merges many small files into one |
| `views.sql`, `views`, `database`, `statements` | the views, and the DuckDB queries over them |
| `sandbox` | runs one untrusted SQL statement |
| `storage/` | files in a local folder or an object store, with a cache on each node |
| `leases/` | which process runs a sweep, and which driver computes a state |
"""
