"""Who runs which sweep, and which driver computes which state."""
