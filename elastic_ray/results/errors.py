"""Errors of the package `results`; their messages are for the user and say what to do."""


class ResultsError(RuntimeError):
    """The results cannot be read or written as requested."""


class AlreadyRecorded(ResultsError):
    """Different rows are already recorded under this key; the recorded rows stay."""
