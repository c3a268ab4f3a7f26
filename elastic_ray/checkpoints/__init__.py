"""Checkpoint files, recorded references to checkpoints, and the Hugging Face hub.

`files` computes checksums and sizes of checkpoint folders; `reference` interprets the `checkpoint`
column of the results; `hub` checks and downloads models and explains failed downloads.
`model_files` finds a model's weight files and reads their headers; `architecture` and `adapter`
load them strictly, with `mismatch` for the words of a refusal; `model_check` says before a sweep
whether a local model can be used.
"""
