"""Tests that every measured quantity has a label."""

from __future__ import annotations

from elastic_ray.analysis.labels import QUANTITY_LABELS
from elastic_ray.elasticity import QUANTITIES


def test_every_quantity_has_a_label() -> None:
    assert set(QUANTITY_LABELS) == set(QUANTITIES)
