"""How much of a plan is done, failed or outstanding; which checkpoints to keep; the budget."""
