"""How much of a plan is done, failed or outstanding; which checkpoints to keep; the budget.

`recovery` restores a `tracker` from the record, and `outstanding` derives what is left. `retention`
says which checkpoints may go, `budget` counts hours, `grid_rows` writes the tables that show
progress, and `activity` holds what the display and the metrics show.
"""
