"""Who runs which sweep (`sweep_lease`), and which driver computes which state (`state_claims`)."""
