"""vLLM's engine in this process, for CPUs; on GPUs `AsyncLLM` has a process of its own.

A process of its own lets a GPU compute while Python prepares the next step. Without a GPU both run
on the same cores, so it would only import every library a second time, which takes ten seconds of
CPU time and 600 MB of memory per engine. `InProcessLLM` has those methods of `AsyncLLM` that
engines and scorers use.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from typing import Any

from ..errors import EngineError


def start_llm(arguments: Any, gpus: float) -> Any:
    """Start vLLM with its `AsyncEngineArgs`; return an `AsyncLLM`, or without GPUs its stand-in."""
    if not gpus:
        return InProcessLLM(arguments)
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


class InProcessLLM:
    """An `LLMEngine` whose calls are all made by one thread, which steps it while it has requests.

    An error of a step ends the thread. From then on `errored` is true, and every call raises
    `dead_error`.
    """

    def __init__(self, arguments: Any) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pending: set[Future[Any]] = set()
        """What callers wait for."""
        self._outputs: dict[str, Future[Any]] = {}
        """Request id -> its final output."""
        self._held: list[Callable[[], None]] | None = None
        """Requests that arrived while generation is paused; None while it is not."""
        self._drained: list[Future[Any]] = []
        """Callers that wait until no request is unfinished."""
        self._error: BaseException | None = None
        self._engine: Any = None
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(arguments, started), name="vllm", daemon=True
        )
        self._thread.start()
        started.result()

    @property
    def model_config(self) -> Any:
        """As `AsyncLLM.model_config`."""
        return self._engine.model_config

    async def generate(
        self, prompt: Any, parameters: Any, *, request_id: str, lora_request: Any = None
    ) -> AsyncIterator[Any]:
        """Yield the final output of a request, as `AsyncLLM.generate` does with FINAL_ONLY."""
        output: Future[Any] = Future()

        def add() -> None:
            if self._held is not None:
                self._held.append(add)
                return
            try:
                self._engine.add_request(request_id, prompt, parameters, lora_request=lora_request)
                self._outputs[request_id] = output
            except Exception as e:  # of this request alone: it may be too long, for example
                output.set_exception(e)

        try:
            yield await self._wait_for(output, add)
        except asyncio.CancelledError:
            self._calls.put(lambda: self._engine.abort_request([request_id]))
            self._outputs.pop(request_id, None)
            raise

    def encode(self, prompt: Any, parameters: Any, *, request_id: str) -> AsyncIterator[Any]:
        """Yield the output of a request to a pooling model, as `AsyncLLM.encode` does."""
        return self.generate(prompt, parameters, request_id=request_id)

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        """Hold new requests back, and wait until none is unfinished; `mode` must be "wait"."""
        if mode != "wait":
            raise ValueError(f"mode: found {mode!r}; allowed: 'wait'")
        drained: Future[None] = Future()

        def pause() -> None:
            self._held = self._held or []
            self._drained.append(drained)

        await self._wait_for(drained, pause)
        if clear_cache:
            await self.reset_prefix_cache()

    async def resume_generation(self) -> None:
        """Take requests again, those that were held back first."""

        def resume() -> None:
            held, self._held = self._held or [], None
            for add in held:
                add()

        await self._call(resume)

    async def update_weight_version(self, version: str) -> None:
        """As `AsyncLLM.update_weight_version`."""
        await self._call(lambda: self._engine.set_weight_version(version))

    async def get_weight_version(self) -> str:
        """As `AsyncLLM.get_weight_version`."""
        return str(await self._call(lambda: self._engine.get_weight_version()))

    async def reset_prefix_cache(self) -> None:
        """As `AsyncLLM.reset_prefix_cache`."""
        await self._call(lambda: self._engine.reset_prefix_cache())

    async def collective_rpc(self, method: str, *, kwargs: Mapping[str, Any]) -> list[Any]:
        """As `AsyncLLM.collective_rpc`."""
        return list(
            await self._call(lambda: self._engine.collective_rpc(method, kwargs=dict(kwargs)))
        )

    async def is_sleeping(self) -> bool:
        """As `AsyncLLM.is_sleeping`; the answer shows that the thread is not stuck in a step."""
        return bool(await self._call(lambda: self._engine.is_sleeping()))

    async def check_health(self) -> None:
        """Raise `dead_error` if the engine has ended."""
        if self.errored:
            raise self.dead_error

    @property
    def errored(self) -> bool:
        """Whether the engine has ended."""
        return not self._thread.is_alive()

    @property
    def dead_error(self) -> EngineError:
        """What calls to an engine that has ended raise."""
        return EngineError(f"the engine has ended: {self._error or 'it was shut down'}")

    def shutdown(self) -> None:
        """End the engine and free its memory; requests that are unfinished fail."""
        self._calls.put(None)
        self._thread.join()

    async def _call(self, work: Callable[[], Any]) -> Any:
        """Have the thread call `work`, and return its result."""
        result: Future[Any] = Future()

        def call() -> None:
            try:
                result.set_result(work())
            except Exception as e:
                result.set_exception(e)

        return await self._wait_for(result, call)

    async def _wait_for(self, result: Future[Any], call: Callable[[], None]) -> Any:
        """Have the thread make a call that leads to `result`, and wait for it."""
        self._pending.add(result)
        self._calls.put(call)
        if self.errored:  # maybe since before the call was put
            self._fail_pending()
        try:
            return await asyncio.wrap_future(result)
        finally:
            self._pending.discard(result)

    def _fail_pending(self) -> None:
        for result in list(self._pending):
            with contextlib.suppress(InvalidStateError):  # it has a result, or was cancelled
                result.set_exception(self.dead_error)

    # Run by the thread.

    def _run(self, arguments: Any, started: Future[None]) -> None:
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        try:
            self._engine = LLMEngine.from_engine_args(arguments, UsageContext.LLM_CLASS)
            started.set_result(None)
        except BaseException as e:
            started.set_exception(e)
            return
        try:
            self._serve()
        except BaseException as e:
            self._error = e
        finally:
            with contextlib.suppress(Exception):
                self._engine.engine_core.shutdown()
            self._fail_pending()

    def _serve(self) -> None:
        """Make calls and steps until `None` is called for."""
        while True:
            unfinished = self._engine.has_unfinished_requests()
            if not unfinished:
                self._tell_drained()
            with contextlib.suppress(queue.Empty):
                while True:
                    call = self._calls.get(block=not unfinished)
                    if call is None:
                        return
                    call()
                    unfinished = unfinished or self._engine.has_unfinished_requests()
                    if not unfinished:
                        self._tell_drained()
            for output in self._engine.step():
                if output.finished and (waiting := self._outputs.pop(output.request_id, None)):
                    with contextlib.suppress(InvalidStateError):  # its caller was cancelled
                        waiting.set_result(output)

    def _tell_drained(self) -> None:
        while self._drained:
            with contextlib.suppress(InvalidStateError):
                self._drained.pop().set_result(None)
