"""What a driver works on is left alone by others, as long as it lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from elastic_ray.results.leases import sweep_lease as claim
from elastic_ray.results.leases.state_claims import StateClaims
from elastic_ray.results.storage.folder import Folder


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[StateClaims, StateClaims]]:
    folder = Folder(tmp_path)
    with claim.hold(folder, "a", str, print) as a, claim.hold(folder, "b", str, print) as b:
        yield StateClaims(folder, a), StateClaims(folder, b)


def test_all_or_none_is_claimed(two: tuple[StateClaims, StateClaims]) -> None:
    one, other = two
    assert one.take(["x", "y"]) and one.take(["y"]), "again is no other"
    assert not other.take(["z", "y"])
    assert one.take(["z"]), "nothing was left claimed"
    one.free(["x", "y"])
    assert other.take(["x", "y"])
    one.free(["x"])
    assert not one.take(["x"]), "others' claims are not given up"


def test_of_many_at_once_one_claims_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with ExitStack() as stack:
        drivers = [
            StateClaims(folder, stack.enter_context(claim.hold(folder, f"s{i}", str, print)))
            for i in range(8)
        ]
        gate = threading.Barrier(8)

        def take(driver: StateClaims) -> bool:
            gate.wait(20)
            return driver.take([f"state {n}" for n in range(5)])

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, drivers)) == 1


def test_who_ended_or_died_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    with claim.hold(folder, "other", str, print) as lease:
        other = StateClaims(folder, lease)
        with claim.hold(folder, "s", str, print) as first:
            assert StateClaims(folder, first).take(["x"])
            assert not other.take(["x"])
        assert other.take(["x"]), "its lease is gone"
        other.free(["x"])
        with claim.hold(folder, "s", str, print) as again:
            assert StateClaims(folder, again).take(["x"])
            now = time.time() + claim.EXPIRES + 1
            monkeypatch.setattr(claim.time, "time", lambda: now)
            assert other.take(["x"]), "it was not heard of for too long"


def test_half_a_claim_is_none(two: tuple[StateClaims, StateClaims], tmp_path: Path) -> None:
    place = tmp_path / "leases" / "work"
    place.mkdir(parents=True)
    (place / "x.json").write_text("{")
    assert two[0].take(["x"])


def test_who_runs_here(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert claim.running(folder) == []
    with claim.hold(folder, "a/b", str, print) as a, claim.hold(folder, "c", str, print) as c:
        assert StateClaims(folder, a).take(["x"])
        assert {lease.token for lease in claim.running(folder)} == {a.token, c.token}
    assert claim.running(folder) == []
