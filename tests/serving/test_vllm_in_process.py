"""The thread that steps vLLM's engine, with an engine of a few lines in its place."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest

from elastic_ray.serving.engines.vllm_in_process import InProcessLLM
from elastic_ray.serving.errors import EngineError


class Output:
    """What a request has come to: one more token with every step."""

    def __init__(self, request_id: str, version: str, tokens: int, finished: bool) -> None:
        self.request_id, self.version = request_id, version
        self.tokens, self.finished = tokens, finished


class FakeEngine:
    """Answers each request in as many steps as its prompt says; fails on a negative number."""

    model_config = "a configuration"

    def __init__(self) -> None:
        self.open: dict[str, list[int]] = {}
        self.version, self.steps, self.aborted = "none", 0, []  # type: ignore[var-annotated]
        self.engine_core = types.SimpleNamespace(shutdown=lambda: None)

    @classmethod
    def from_engine_args(cls, arguments: Any, usage: Any) -> FakeEngine:
        if arguments == "broken":
            raise ValueError("no such model")
        return cls()

    def add_request(self, request_id: str, prompt: int, parameters: Any, lora_request: Any) -> None:
        if prompt == 0:
            raise ValueError("an empty prompt")
        self.open[request_id] = [0, prompt]

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for each in request_ids:
            self.open.pop(each, None)

    def has_unfinished_requests(self) -> bool:
        return bool(self.open)

    def step(self) -> list[Output]:
        self.steps += 1
        outputs = []
        for request_id, state in list(self.open.items()):
            if state[1] < 0:
                raise RuntimeError("out of memory")
            state[0] += 1
            finished = state[0] == state[1]
            outputs.append(Output(request_id, self.version, state[0], finished))
            if finished:
                del self.open[request_id]
        return outputs

    def set_weight_version(self, version: str) -> None:
        assert not self.open, "a swap while requests are unfinished"
        self.version = version

    def get_weight_version(self) -> str:
        return self.version

    def reset_prefix_cache(self) -> None: ...

    def is_sleeping(self) -> bool:
        return False

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> list[Any]:
        return [method, kwargs]


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> InProcessLLM:
    usage = types.SimpleNamespace(UsageContext=types.SimpleNamespace(LLM_CLASS="class"))
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.usage.usage_lib", usage)
    engine = types.SimpleNamespace(LLMEngine=FakeEngine)
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.llm_engine", engine)
    return InProcessLLM("arguments")


async def ask(llm: InProcessLLM, name: str, steps: int) -> Output:
    return [output async for output in llm.generate(steps, None, request_id=name)][-1]


def test_requests_are_answered_together(llm: InProcessLLM) -> None:
    async def all_at_once() -> list[Output]:
        return await asyncio.gather(*(ask(llm, f"r{n}", n) for n in range(1, 30)))

    outputs = asyncio.run(all_at_once())
    assert [output.tokens for output in outputs] == list(range(1, 30))
    assert llm._engine.steps < 60, "one step serves all requests that are open"
    llm.shutdown()
    assert llm.errored


def test_weights_change_between_requests_only(llm: InProcessLLM) -> None:
    async def swap_in_between() -> tuple[Output, Output]:
        before = asyncio.ensure_future(ask(llm, "before", 2000))
        await asyncio.sleep(0.01)
        pausing = asyncio.ensure_future(llm.pause_generation(mode="wait", clear_cache=True))
        await asyncio.sleep(0)
        after = asyncio.ensure_future(ask(llm, "after", 3))
        await pausing
        assert before.done() and not after.done()
        await llm.update_weight_version("new")
        assert await llm.collective_rpc("load", kwargs={"folder": "x"}) == ["load", {"folder": "x"}]
        await asyncio.sleep(0.05)
        assert not after.done(), "it is held back until generation resumes"
        await llm.resume_generation()
        return await before, await after

    before, after = asyncio.run(swap_in_between())
    assert (before.version, after.version) == ("none", "new")
    llm.shutdown()


def test_an_error_of_one_request_is_its_own(llm: InProcessLLM) -> None:
    async def one_of_two() -> Output:
        other = asyncio.ensure_future(ask(llm, "other", 5))
        with pytest.raises(ValueError, match="empty prompt"):
            await ask(llm, "empty", 0)
        return await other

    assert asyncio.run(one_of_two()).tokens == 5
    asyncio.run(llm.check_health())
    llm.shutdown()


def test_an_error_of_a_step_ends_the_engine_and_all_that_wait(llm: InProcessLLM) -> None:
    async def broken() -> list[Any]:
        waiting = [ask(llm, "long", 10**9), ask(llm, "bad", -1)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    errors = asyncio.run(broken())
    assert all(isinstance(error, EngineError) for error in errors)
    assert all("out of memory" in str(error) for error in errors)
    assert llm.errored
    with pytest.raises(EngineError, match="out of memory"):
        asyncio.run(llm.is_sleeping())
    with pytest.raises(EngineError, match="out of memory"):
        asyncio.run(llm.check_health())


def test_a_cancelled_request_is_aborted(llm: InProcessLLM) -> None:
    async def cancelled() -> None:
        task = asyncio.ensure_future(ask(llm, "long", 10**9))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert not await llm.is_sleeping()

    asyncio.run(cancelled())
    assert llm._engine.aborted == ["long"] and not llm._engine.open
    llm.shutdown()


def test_an_engine_that_cannot_start_says_why(llm: InProcessLLM) -> None:
    llm.shutdown()
    with pytest.raises(ValueError, match="no such model"):
        InProcessLLM("broken")
