"""The Ray cluster that a sweep runs on: connecting to it, and its nodes."""
