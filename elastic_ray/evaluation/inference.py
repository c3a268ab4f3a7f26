"""One question to one state: where its weights lie, what it answers or takes for texts in bits, and
the record of that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.reference import CheckpointReference
from ..placement import Layout, memory_share
from ..plan import EngineGroup, EvaluationRequest, Plan
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
    """An engine answered while it held another state than it was asked about."""


class InferenceRunner:
    """Asks engines; `prompts` holds each task's held-out prompts, those of lessons last, `texts`
    its held-out texts by distribution (none where no code lengths are asked for)."""

    def __init__(
        self,
        plan: Plan,
        results: Results,
        tracker: ProgressTracker,
        fleet: Fleet,
        layout: Layout,
        prompts: Mapping[str, list[str]],
        texts: Mapping[str, Mapping[str, list[CodedText]]],
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._results, self._tracker = plan, results, tracker
        self._fleet, self._layout, self._say = fleet, layout, say
        self._prompts, self._texts = prompts, texts
        self._probes = plan.requests()
        asked = plan.spec.generation
        self._sampling = Sampling(
            asked.samples,
            asked.max_tokens,
            asked.temperature,
            asked.top_k,
            asked.top_p,
            asked.seed,
        )

    async def place(self, group: EngineGroup, places: Mapping[str, int]) -> None:
        """Have so many engines of a kind on those nodes, once they are open."""
        for problem in await self._fleet.place(group.name, places):
            self._say(problem)

    async def open(self, group: EngineGroup, state: str) -> None:
        """Start the engines of a kind on that state's weights."""
        self._tracker.activity.set(f"engine {group.name}", f"engine {group.name}: starting")
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
        )
        began = time.monotonic()
        about = await self._fleet.open_engine(config)
        self._tracker.activity.add_seconds("start engines", time.monotonic() - began)
        if about.get("notice"):
            self._say(f"engine {group.name}: {about['notice']}")
        self._tracker.activity.set(
            f"engine {group.name}", f"engine {group.name}: {about['engine']}"
        )

    async def close(self, group: EngineGroup) -> None:
        """End the engines of a kind and give their resources back."""
        await self._fleet.close(group.name)
        self._tracker.activity.clear(f"engine {group.name}")

    async def answers(self, group: EngineGroup, question: EvaluationRequest) -> list[Answer]:
        """The answers to a question, recorded: as they are on record, or asked now.

        `WrongState` if a single one came from other weights; nothing is recorded then.
        """
        state, asked = question.state_id, self._plan.spec.generation.prompts
        prompts = list(enumerate(self._prompts[question.task]))
        probe, prompts = self._probes[question].probe_id, prompts[:asked]
        if question in self._tracker.answered:
            return await asyncio.to_thread(self._on_record, state, probe)
        return await self._answered(group, question, probe, prompts)

    async def teach(self, group: EngineGroup, question: EvaluationRequest) -> None:
        """The answers that other states learn from, recorded; `WrongState` as for answers."""
        probe, asked = self._probes[question].queries, self._plan.spec.generation.prompts
        assert probe is not None  # the plan asks this question only then
        prompts = list(enumerate(self._prompts[question.task]))[asked:]
        await self._answered(group, question, probe, prompts)
        self._tracker.request_closed(question)

    async def _answered(
        self,
        group: EngineGroup,
        question: EvaluationRequest,
        probe: str,
        prompts: list[tuple[int, str]],
    ) -> list[Answer]:
        state = question.state_id
        at = {"state_id": state, "probe_id": probe}
        # Another sweep may have asked it since this one began, or while this one asks.
        if await asyncio.to_thread(self._results.has, "responses", **at):
            self._tracker.request_answered(question)
            return await asyncio.to_thread(self._on_record, state, probe)
        weights = await asyncio.to_thread(self.weights, state)
        reply = await self._fleet.generate(group.name, weights, prompts, self._sampling)
        _check_held(state, reply)
        rows = [{name: getattr(answer, name) for name in _COLUMNS} for answer in reply.items]
        answers = reply.items
        try:
            await asyncio.to_thread(self._results.write, "responses", rows, **at)
        except AlreadyRecorded:
            answers = await asyncio.to_thread(self._on_record, state, probe)
        self._took("generate", reply)
        self._tracker.activity.add_count(
            "tokens_generated", sum(each.tokens for each in reply.items)
        )
        self._tracker.request_answered(question)
        return answers

    async def code_lengths(self, group: EngineGroup, question: EvaluationRequest) -> None:
        """Measure and record the state's code lengths of each corpus that is not on record.

        `WrongState` as for answers.
        """
        asked = self._plan.spec.probes.code_length
        assert asked is not None  # the plan asks this question only then
        state = question.state_id
        weights = await asyncio.to_thread(self.weights, state)
        for kind, corpus in self._probes[question].corpora.items():
            at = {"state_id": state, "corpus": corpus}
            if await asyncio.to_thread(self._results.has, "code_lengths", **at):
                continue
            texts = self._texts[question.task][kind]
            reply = await self._fleet.code_lengths(group.name, weights, texts, asked.window)
            _check_held(state, reply)
            rows = [
                {"example": i, "bits": each.bits, "tokens": each.tokens, "bytes": each.bytes}
                for i, each in enumerate(reply.items)
            ]
            # Another sweep may have measured it meanwhile: the same but for the last digits.
            with contextlib.suppress(AlreadyRecorded):
                await asyncio.to_thread(self._results.write, "code_lengths", rows, **at)
            self._took("code lengths", reply)
        self._tracker.request_closed(question)

    async def distances(self, group: EngineGroup, question: EvaluationRequest) -> None:
        """Measure and record the state's distances from its reference, on that one's answers.

        `WrongState` as for answers.
        """
        state, reference = question.state_id, question.reference
        probe = self._probes[question]
        assert reference is not None and probe.distances is not None
        at = {"state_id": state, "reference_id": reference, "probe_id": probe.distances}
        if await asyncio.to_thread(self._results.has, "distances", **at):  # by another sweep
            self._tracker.request_closed(question)
            return
        answers = await asyncio.to_thread(self._on_record, reference, probe.probe_id)
        weights, other = (
            await asyncio.to_thread(self.weights, state),
            await asyncio.to_thread(self.weights, reference),
        )
        reply = await self._fleet.distances(group.name, weights, other, answers)
        _check_held(state, reply)
        if any(each.reference != reference for each in reply.items):
            raise WrongState(f"to be compared with {reference}, compared with another state")
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
        self._took("distances", reply)
        self._tracker.request_closed(question)

    def _took(self, kind: str, reply: Reply[Any]) -> None:
        self._tracker.activity.add_seconds(kind, reply.seconds)
        self._tracker.activity.add_seconds("swap weights", reply.swap_seconds)
        self._tracker.activity.add_count("weight_swaps", reply.swaps)

    def _on_record(self, state: str, probe: str) -> list[Answer]:
        rows = self._results.read("responses", state_id=state, probe_id=probe).to_pylist()
        return [Answer(**{name: row[name] for name in _COLUMNS}) for row in rows]

    def weights(self, state: str) -> Weights:
        """Where the state's weights lie; `LookupError` when they were deleted."""
        row = self._results.state(state)
        if row is None or row["checkpoint"] is None:
            raise LookupError(f"state {state}: its checkpoint is not there any more")
        full = self._plan.full_ancestor(state)
        if full == state:
            return Weights(state, *self._place(row["checkpoint"]), row["checksum"], None, None)
        base = self._results.state(full)
        if base is None or base["checkpoint"] is None:
            raise LookupError(f"state {state}: the weights below its adapter are not there")
        adapter = self._place(row["checkpoint"])[0]
        return Weights(state, *self._place(base["checkpoint"]), base["checksum"], adapter, full)

    def _place(self, checkpoint: str) -> tuple[str, str | None]:
        """(folder or hub id, revision) of a recorded checkpoint."""
        return CheckpointReference.parse(checkpoint).source(self._results.location)


def _check_held(
    state: str, reply: Reply[Answer] | Reply[CodeLengthResult] | Reply[DistanceResult]
) -> None:
    wrong = sorted({item.held_state for item in reply.items} - {state})
    if wrong:
        raise WrongState(f"asked of {state}, answered by {', '.join(map(str, wrong))}")


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
