"""What all tests share: patience with a busy machine, no hub, and where the real reviews are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Its library reads this once, when it is imported, and waits for minutes where there is no network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tests start their own Ray; they never join a cluster that runs on this machine.
os.environ.setdefault("RAY_ADDRESS", "local")

# Property tests judge what is computed, not how long an example took to draw. `make test` draws the
# same examples each time, so that what fails, fails again; `pytest --hypothesis-profile=explore`
# draws new ones, and more of them.
_LASTING = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **_LASTING)
settings.register_profile("explore", derandomize=False, max_examples=1000, **_LASTING)
settings.load_profile("same")


TOGETHER = {
    "test_sweep": "sweep",
    "test_sweep_on_store": "sweep",
    "test_faults": "sweep",
    "test_hosts": "hosts",
    "test_ray_up": "hosts",
}
"""Files whose integration tests run in one process, because they share a sweep or host names."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, keep the integration tests of a file in one process."""
    for item in items:
        if item.get_closest_marker("integration"):
            name = item.path.stem
            item.add_marker(pytest.mark.xdist_group(TOGETHER.get(name, name)))


@pytest.fixture(scope="session")
def imdb_folder() -> Path:
    """IMDb's train, test and unsupervised as files; tests of them skip where they are not."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "imdb"
    folder = Path(os.environ.get("ELASTIC_RAY_IMDB", beside))
    if not folder.is_dir():
        pytest.skip(f"the real reviews are not in {folder}: set ELASTIC_RAY_IMDB to their folder")
    return folder


@pytest.fixture(scope="session")
def little_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small whole sweep."""
    from sweep_process import SPEC

    path = tmp_path_factory.mktemp("spec") / "little.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def undisturbed(little_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """That sweep, on a disk, disturbed by nothing: (results, what it printed)."""
    from sweep_process import sweep

    results = tmp_path_factory.mktemp("results")
    out = sweep(little_spec, results)
    assert out.returncode == 0, out.stdout + out.stderr
    return results, out.stdout


@pytest.fixture(scope="session")
def scorers(undisturbed: tuple[Path, str]) -> Path:
    """The folder of a results' trained scorers: with a copy of it, a sweep of the same task whose
    test asks other things need not train its own."""
    return undisturbed[0] / "scorers"
