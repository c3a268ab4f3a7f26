"""State claims: what a live driver computes, no other driver computes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from elastic_ray.results.leases import sweep_lease
from elastic_ray.results.leases.state_claims import StateClaims
from elastic_ray.results.storage.folder import Folder


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[StateClaims, StateClaims]]:
    folder = Folder(tmp_path)
    with (
        sweep_lease.acquire_sweep_lease(folder, "a", str, print) as a,
        sweep_lease.acquire_sweep_lease(folder, "b", str, print) as b,
    ):
        yield StateClaims(folder, a), StateClaims(folder, b)


def test_all_names_are_claimed_or_none(two: tuple[StateClaims, StateClaims]) -> None:
    one, other = two
    assert one.claim(["x", "y"]) and one.claim(["y"]), "its own claim is no obstacle"
    assert not other.claim(["z", "y"])
    assert one.claim(["z"]), "a failed claim leaves nothing claimed"
    one.release(["x", "y"])
    assert other.claim(["x", "y"])
    one.release(["x"])
    assert not one.claim(["x"]), "a driver releases only its own claims"


def test_of_many_concurrent_drivers_one_gets_the_claim(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with ExitStack() as stack:
        drivers = [
            StateClaims(
                folder,
                stack.enter_context(sweep_lease.acquire_sweep_lease(folder, f"s{i}", str, print)),
            )
            for i in range(8)
        ]
        gate = threading.Barrier(8)

        def take(driver: StateClaims) -> bool:
            gate.wait(20)
            return driver.claim([f"state {n}" for n in range(5)])

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(take, drivers)) == 1


def test_claims_end_with_their_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(tmp_path)
    with sweep_lease.acquire_sweep_lease(folder, "other", str, print) as lease:
        other = StateClaims(folder, lease)
        with sweep_lease.acquire_sweep_lease(folder, "s", str, print) as first:
            assert StateClaims(folder, first).claim(["x"])
            assert not other.claim(["x"])
        assert other.claim(["x"]), "the lease has been released"
        other.release(["x"])
        with sweep_lease.acquire_sweep_lease(folder, "s", str, print) as again:
            assert StateClaims(folder, again).claim(["x"])
            now = time.time() + sweep_lease.EXPIRY_SECONDS + 1
            monkeypatch.setattr(sweep_lease.time, "time", lambda: now)
            assert other.claim(["x"]), "the lease has expired"


def test_an_incomplete_claim_file_is_ignored(
    two: tuple[StateClaims, StateClaims], tmp_path: Path
) -> None:
    place = tmp_path / "leases" / "work"
    place.mkdir(parents=True)
    (place / "x.json").write_text("{")
    assert two[0].claim(["x"])


def test_active_leases(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert sweep_lease.active_leases(folder) == []
    with (
        sweep_lease.acquire_sweep_lease(folder, "a/b", str, print) as a,
        sweep_lease.acquire_sweep_lease(folder, "c", str, print) as c,
    ):
        assert StateClaims(folder, a).claim(["x"])
        assert {lease.token for lease in sweep_lease.active_leases(folder)} == {a.token, c.token}
    assert sweep_lease.active_leases(folder) == []
