"""A few cases of `fault_matrix`: one for each component that can fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
from fault_injection import Disturbed
from fault_matrix import WHENS, cases, run

pytestmark = pytest.mark.integration

CHOSEN = (
    "node-drained-before engine-killed-during scorer-killed-during",
    "trainer-killed-during driver-killed-during",
    "node-killed-during",
)
"""Each item names the cases that share one sweep."""


@pytest.fixture(scope="module")
def disturbed(scorers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    folder = tmp_path_factory.mktemp("faults") / "f"
    with closing(Disturbed(folder, scorers=scorers)) as disturbed:
        yield disturbed


def test_every_part_breaks_at_every_moment() -> None:
    every = cases()
    assert len(every) >= 40 and len({case.name for case in every}) == len(every)
    for part in ("trainer", "engine", "scorer", "driver", "node", "head"):
        assert {case.when for case in every if case.part == part} == set(WHENS)


@pytest.mark.slow
@pytest.mark.parametrize("names", CHOSEN)
def test_a_sweep_that_was_disturbed_ends_with_the_same_rows(
    disturbed: Disturbed, names: str
) -> None:
    group = [case for case in cases() if case.name in names.split()]
    seen = run(disturbed, group, seed=0)
    assert seen.problems == [], seen.printed
