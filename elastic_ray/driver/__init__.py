"""Runs a plan: scheduling, evaluation, cluster membership and housekeeping, side by side."""
