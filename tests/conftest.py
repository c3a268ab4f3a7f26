"""Settings and fixtures of all tests: offline hub, Hypothesis profiles, shared sweeps and data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# The hub's library reads this at import; without it, it waits for minutes if there is no network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests start their own Ray; they never join a cluster that runs on this machine.
os.environ.setdefault("RAY_ADDRESS", "local")

# Property tests check results, not the time to draw an example. `make test` draws the same examples
# each time, so that failures are reproducible; `pytest --hypothesis-profile=explore` draws new and
# more examples.
_LASTING = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_LASTING)
settings.register_profile("explore", derandomize=False, max_examples=1000, **_LASTING)
settings.load_profile("same")


@pytest.fixture(scope="session")
def imdb_folder() -> Path:
    """Return the folder of IMDb's train, test and unsupervised files; skip if it is missing."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "imdb"
    folder = Path(os.environ.get("ELASTIC_RAY_IMDB", beside))
    if not folder.is_dir():
        pytest.skip(f"the real reviews are not in {folder}: set ELASTIC_RAY_IMDB to their folder")
    return folder


@pytest.fixture
def no_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error holds errors only, also where a busy machine makes checks slow."""
    monkeypatch.setattr("elastic_ray.plan.inputs._NOTICE_AFTER", 3600.0)


@pytest.fixture(scope="session")
def little_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sweep file of a small but complete sweep."""
    from sweep_process import SPEC

    path = tmp_path_factory.mktemp("spec") / "little.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="module")
def only_hosts(shared_folder: Path) -> Iterator[None]:
    """Keep other files of this test run from simulating hosts meanwhile: names are shared."""
    with FileLock(shared_folder / "hosts.lock"):
        yield


@pytest.fixture(scope="session")
def undisturbed(little_spec: Path, shared_folder: Path) -> tuple[Path, str]:
    """Run the sweep of `little_spec` on local disk without faults; return (results, output).

    Only the first process of a test run that asks for it runs the sweep. Tests do not change its
    results.
    """
    from sweep_process import sweep

    results, printed = shared_folder / "undisturbed", shared_folder / "undisturbed.txt"
    with FileLock(shared_folder / "undisturbed.lock"):
        if not printed.exists():
            out = sweep(little_spec, results)
            assert out.returncode == 0, out.stdout + out.stderr
            printed.write_text(out.stdout)
    return results, printed.read_text()


@pytest.fixture(scope="session")
def scorers(undisturbed: tuple[Path, str]) -> Path:
    """Return the folder of trained scorers in the results of `undisturbed`.

    Tests copy it into other results, so that sweeps of the same task do not train their own scorer.
    """
    return undisturbed[0] / "scorers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files of integration tests: the short ones then fill both processes to the end."""
    long = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in long)  # stable
