"""Colour scales of surfaces; the colours of lines are those of `analysis.palette`."""

SCALE = "Viridis"
DIVERGING = "RdBu"
