"""Runs a plan: scheduling, evaluation, cluster membership and housekeeping, side by side.

`driver` runs a sweep to its end; `setup_jobs` makes start states and scorers, `membership` adapts
to the cluster's nodes, `housekeeping` does periodic work. `coordination` and `checkpoint_cleanup`
deal with other sweeps on the same results; `progress_display` and `metrics` show how far it is.
"""
