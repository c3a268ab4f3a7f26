"""The sweep command: runs a sweep file, or prints its price, its status or its outcome.

- `__main__`: the command's arguments; `run`: runs a sweep to its end; `notebook`: the same from a
  notebook, in a process of its own
- `dry_run`, `layout_table`: what `--dry-run` prints; `status`: `--status`, `--follow` and `--stop`
- `outcome`: the tables at the end of a run
- `terminal`, `log_capture`: messages to the user, and the log file for the output of libraries
"""
