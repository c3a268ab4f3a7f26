"""Checkpoint files, recorded references to checkpoints, and the Hugging Face hub.

`files` computes checksums and sizes of checkpoint folders; `reference` interprets the `checkpoint`
column of the results; `hub` checks and downloads models and explains failed downloads.
"""
