"""Checkpoint files, references to them, and downloads from the Hugging Face hub."""
