"""What the tests of served engines and scorers share: one run on a real cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from served_requests import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The results of all requests. Ray and Serve have ended when a test sees them."""
    import ray
    from ray import serve
    from served_requests import serve_all

    from elastic_ray.serving.engines.vllm_runtime import vllm_unavailable_reason

    if (reason := vllm_unavailable_reason()) is not None:
        pytest.skip(f"vLLM is not available: {reason}")
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        return asyncio.run(serve_all(tmp_path_factory.mktemp("served")))
    finally:
        serve.shutdown()
        ray.shutdown()
