"""Runs one evaluation request against one model state, and records the result.

Results are sampled answers, code lengths (bits) or distances between next-token distributions. An
answer is recorded only if the engine held the state's own weights when it gave it
(docs/concepts.md#rule-4).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.reference import CheckpointReference
from ..placement import Layout, memory_share
from ..plan import EngineGroup, EvaluationRequest, Plan, engine_names
from ..progress.activity import clock
from ..progress.tracker import ProgressTracker
from ..results.errors import AlreadyRecorded
from ..results.store import Results
from ..serving.fleet import Fleet
from ..serving.types import (
    Answer,
    CodedText,
    CodeLengthResult,
    DistanceResult,
    EngineConfig,
    Reply,
    Sampling,
    Weights,
)


class WrongState(RuntimeError):
    """An engine answered while it held the weights of another state than the requested one."""


class InferenceRunner:
    """Starts the engines of the fleet and runs evaluation requests on them.

    `prompts` holds each task's held-out prompts, those of lessons last; `texts` its held-out texts
    by distribution, which may be empty where no code lengths are measured. `notify` takes messages
    for the user.

    The methods that run a request record its result and report it to the tracker. They raise
    `WrongState` if an engine held other weights, in which case nothing is recorded, and
    `LookupError` if the state's checkpoint has been deleted.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        fleet: Fleet,
        layout: Layout,
        prompts: Mapping[str, list[str]],
        texts: Mapping[str, Mapping[str, list[CodedText]]],
        notify: Callable[[str], None],
    ) -> None:
        self._plan, self._results, self._tracker = plan, results, tracker
        self._fleet, self._layout, self._notify = fleet, layout, notify
        self._prompts, self._texts = prompts, texts
        self._names = engine_names(plan)
        self._probes = plan.requests()
        generation = plan.spec.generation
        self._sampling = Sampling(
            generation.samples,
            generation.max_tokens,
            generation.temperature,
            generation.top_k,
            generation.top_p,
            generation.seed,
        )

    async def place_engines(self, group: EngineGroup, places: Mapping[str, int]) -> None:
        """Place the group's replicas on nodes (node id -> number), now or when they start."""
        for problem in await self._fleet.place(group.name, places):
            self._notify(problem)

    async def start_engines(self, group: EngineGroup, state: str) -> None:
        """Start the group's engines on a state's weights; raises what keeps them from starting."""
        name, activity = self._names[group.name], self._tracker.activity
        activity.set(f"engine {group.name}", f"{name} starts", timed=True)
        serving = self._plan.spec.resources.engines
        need = self._layout.needs.engines[group.name]
        weights = self.weights(self._plan.full_ancestor(state))
        config = EngineConfig(
            name=group.name,
            kind="transformers" if group.pairs else serving.engine,
            checkpoint=weights.checkpoint,
            revision=weights.revision,
            state_id=weights.state_id,
            dtype=group.dtype,
            max_model_len=serving.context,
            max_lora_rank=group.lora_rank,
            replicas=self._layout.replicas,
            cpus=need.cpus,
            gpus=need.gpus,
            tensor_parallel=self._layout.tensor_parallel(group.name),
            kv_cache_gib=serving.kv_cache_gib,
            gpu_memory_utilization=memory_share(serving, need.gpus),
            trust_remote_code=group.trust_remote_code,
            deterministic=self._plan.spec.generation.deterministic,
        )
        began = time.monotonic()
        try:
            started = await self._fleet.open_engine(config)
        finally:
            activity.clear(f"engine {group.name}")
        seconds = time.monotonic() - began
        activity.add_seconds("start engines", seconds)
        self._notify(f"{name} runs ({started['engine']}); started in {clock(seconds)}")
        if started.get("notice"):
            self._notify(f"{name}: {started['notice']}")

    async def stop_engines(self, group: EngineGroup) -> None:
        """Stop the group's engines and release their resources."""
        await self._fleet.close(group.name)

    async def answers(self, group: EngineGroup, request: EvaluationRequest) -> list[Answer]:
        """Return the state's answers to its task's prompts, sampled now or from the record."""
        probe = self._probes[request].probe_id
        if request in self._tracker.answered:
            return await asyncio.to_thread(self._recorded_answers, request.state_id, probe)
        prompts = list(enumerate(self._prompts[request.task]))
        measured = prompts[: self._plan.spec.generation.prompts]
        return await self._sample_answers(group, request, probe, measured)

    async def lesson_answers(self, group: EngineGroup, request: EvaluationRequest) -> None:
        """Sample the answers that other states learn from."""
        probe = self._probes[request].queries
        assert probe is not None  # the plan has such a request only for lessons
        prompts = list(enumerate(self._prompts[request.task]))
        queries = prompts[self._plan.spec.generation.prompts :]
        await self._sample_answers(group, request, probe, queries)
        self._tracker.request_closed(request)

    async def _sample_answers(
        self,
        group: EngineGroup,
        request: EvaluationRequest,
        probe: str,
        prompts: list[tuple[int, str]],
    ) -> list[Answer]:
        state = request.state_id
        at = {"state_id": state, "probe_id": probe}
        # Another sweep may have recorded the answers since this one began, or do so meanwhile.
        if await asyncio.to_thread(self._results.has, "responses", **at):
            self._tracker.request_answered(request)
            return await asyncio.to_thread(self._recorded_answers, state, probe)
        weights = await asyncio.to_thread(self.weights, state)
        reply = await self._fleet.generate(group.name, weights, prompts, self._sampling)
        _check_held(state, reply)
        rows = [{name: getattr(answer, name) for name in _COLUMNS} for answer in reply.items]
        answers = reply.items
        try:
            await asyncio.to_thread(self._results.write, "responses", rows, **at)
        except AlreadyRecorded:
            answers = await asyncio.to_thread(self._recorded_answers, state, probe)
        self._count_work("generate", reply)
        self._tracker.activity.add_count(
            "tokens_generated", sum(each.tokens for each in reply.items)
        )
        self._tracker.request_answered(request)
        return answers

    async def code_lengths(self, group: EngineGroup, request: EvaluationRequest) -> None:
        """Measure the state's code lengths on every corpus that has none recorded."""
        code_length = self._plan.spec.probes.code_length
        assert code_length is not None  # the plan has such a request only then
        state = request.state_id
        weights = await asyncio.to_thread(self.weights, state)
        for kind, corpus in self._probes[request].corpora.items():
            at = {"state_id": state, "corpus": corpus}
            if await asyncio.to_thread(self._results.has, "code_lengths", **at):
                continue
            texts = self._texts[request.task][kind]
            reply = await self._fleet.code_lengths(group.name, weights, texts, code_length.window)
            _check_held(state, reply)
            rows = [
                {"example": i, "bits": each.bits, "tokens": each.tokens, "bytes": each.bytes}
                for i, each in enumerate(reply.items)
            ]
            # Another sweep may have measured it meanwhile: equal but for the last digits.
            with contextlib.suppress(AlreadyRecorded):
                await asyncio.to_thread(self._results.write, "code_lengths", rows, **at)
            self._count_work("code lengths", reply)
        self._tracker.request_closed(request)

    async def distances(self, group: EngineGroup, request: EvaluationRequest) -> None:
        """Measure the state's distances from its reference state, on the reference's answers."""
        state, reference = request.state_id, request.reference
        probe = self._probes[request]
        assert reference is not None and probe.distances is not None
        at = {"state_id": state, "reference_id": reference, "probe_id": probe.distances}
        if await asyncio.to_thread(self._results.has, "distances", **at):  # another sweep did
            self._tracker.request_closed(request)
            return
        answers = await asyncio.to_thread(self._recorded_answers, reference, probe.probe_id)
        weights, other = (
            await asyncio.to_thread(self.weights, state),
            await asyncio.to_thread(self.weights, reference),
        )
        reply = await self._fleet.distances(group.name, weights, other, answers)
        _check_held(state, reply)
        if any(each.reference != reference for each in reply.items):
            raise WrongState(
                f"the reference should be state {reference}, but the engine held another one"
            )
        rows = [
            {
                "prompt_index": each.prompt_index,
                "sample": each.sample,
                "metric": metric,
                "value": value,
                "tokens": each.tokens,
            }
            for each in reply.items
            for metric, value in each.distances.items()
        ]
        with contextlib.suppress(AlreadyRecorded):
            await asyncio.to_thread(self._results.write, "distances", rows, **at)
        self._count_work("distances", reply)
        self._tracker.request_closed(request)

    def _count_work(self, kind: str, reply: Reply[Any]) -> None:
        self._tracker.activity.add_seconds(kind, reply.seconds)
        self._tracker.activity.add_seconds("swap weights", reply.swap_seconds)
        self._tracker.activity.add_count("weight_swaps", reply.swaps)

    def _recorded_answers(self, state: str, probe: str) -> list[Answer]:
        rows = self._results.read("responses", state_id=state, probe_id=probe).to_pylist()
        return [Answer(**{name: row[name] for name in _COLUMNS}) for row in rows]

    def weights(self, state: str) -> Weights:
        """Return the location of a state's weights; `LookupError` if they have been deleted."""
        row = self._results.state(state)
        if row is None or row["checkpoint"] is None:
            raise LookupError(f"state {state}: its checkpoint has been deleted")
        full_state = self._plan.full_ancestor(state)
        if full_state == state:
            return Weights(state, *self._source(row["checkpoint"]), row["checksum"], None, None)
        base = self._results.state(full_state)
        if base is None or base["checkpoint"] is None:
            raise LookupError(
                f"state {state}: the weights that its adapter belongs to have been deleted"
            )
        adapter = self._source(row["checkpoint"])[0]
        return Weights(
            state, *self._source(base["checkpoint"]), base["checksum"], adapter, full_state
        )

    def _source(self, checkpoint: str) -> tuple[str, str | None]:
        """Return (folder or hub id, revision) of a recorded checkpoint."""
        return CheckpointReference.parse(checkpoint).source(self._results.location)


def _check_held(
    state: str, reply: Reply[Answer] | Reply[CodeLengthResult] | Reply[DistanceResult]
) -> None:
    wrong = sorted({item.held_state for item in reply.items} - {state})
    if wrong:
        raise WrongState(f"requested from state {state}, answered by {', '.join(map(str, wrong))}")


_COLUMNS = (
    "prompt_index",
    "sample",
    "prompt",
    "response",
    "tokens",
    "finish_reason",
    "held_state",
    "seed",
    "engine",
)
