"""Questions to states: each snapshot is asked and judged while the next ones train.

An event loop takes every state that is recorded and not yet answered, finds the engines of its
kind, writes the answers, has them scored, and writes the scores. Engines open when there is work
for them, at most as many kinds at a time as the layout has room for, and close when none is left.
A question that fails marks its own cell, with the error; the others go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .board import Board
from .capacity import Layout
from .checkpoints import split_hub
from .plan import Group, Plan
from .results import Results
from .serving.fleet import Fleet
from .serving.values import Answer, EngineConfig, Sampling, Score, ScorerConfig, Weights

Key = tuple[str, str]
"""A question: (state_id, task)."""


class WrongState(RuntimeError):
    """An engine answered while it held another state than it was asked about."""


class Prober:
    """Asks and scores; `run` ends when every question is scored, lost, or its state failed.

    `prompts` holds each task's held-out prompts; `judges` gives, by task and once it is there, the
    scorer's configuration and held-out accuracy (None where it is not known).
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        board: Board,
        fleet: Fleet,
        layout: Layout,
        prompts: Mapping[str, list[str]],
        judges: Mapping[str, Awaitable[tuple[ScorerConfig, float | None]]],
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._results, self._board = plan, results, board
        self._fleet, self._layout, self._prompts, self._say = fleet, layout, prompts, say
        self._judges = {task: asyncio.ensure_future(made) for task, made in judges.items()}
        self._questions = {
            key: probe for key, probe in plan.questions().items() if key not in board.scored
        }
        self._by_state: dict[str, list[Key]] = defaultdict(list)
        self._left: dict[str, int] = defaultdict(int)
        for key in self._questions:
            self._by_state[key[0]].append(key)
            self._left[plan.nodes[key[0]].engine] += 1
        self._ready: dict[str, deque[Key]] = defaultdict(deque)
        self._slots = asyncio.Semaphore(layout.open_engines)
        self._queueing: set[str] = set()
        """Kinds that have work, but no slot."""
        self._work: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._left}
        self._scoring: set[asyncio.Task[None]] = set()
        self._open: dict[str, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        board.listen(
            lambda event, state: self._loop.call_soon_threadsafe(self._heard, event, state)
        )

    def _heard(self, event: str, state: str) -> None:
        if event not in ("done", "failed"):
            return
        for key in self._by_state.pop(state, ()):
            engine = self._plan.nodes[state].engine
            if event == "done":
                self._ready[engine].append(key)
            else:
                self._left[engine] -= 1
            self._work[engine].set()

    async def run(self) -> None:
        """Serve every kind of engine to its end."""
        for state in list(self._by_state):
            if state in self._board.done:
                self._heard("done", state)
            elif state in self._board.failed:
                self._heard("failed", state)
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._left:
                    group.create_task(self._serve(self._plan.groups[name]))
            while self._scoring:
                await asyncio.gather(*self._scoring)
        finally:
            for made in self._judges.values():
                made.cancel()

    async def _serve(self, group: Group) -> None:
        """Work off one kind's questions; hold an engine slot only while there are some."""
        while self._left[group.name] > 0:
            await self._wait(group.name)
            if not self._ready[group.name]:
                continue
            self._queueing.add(group.name)
            async with self._slots:
                self._queueing.discard(group.name)
                await self._work_off(group)

    async def _wait(self, engine: str) -> None:
        while not self._ready[engine] and self._left[engine] > 0:
            self._work[engine].clear()
            await self._work[engine].wait()

    async def _work_off(self, group: Group) -> None:
        """Open the engines, answer what is ready and what comes, close them."""
        unanswered = [k for k in self._ready[group.name] if k not in self._board.answered]
        opened = False
        try:
            if unanswered:
                await self._open_engine(group, unanswered[0][0])
                opened = True
            # Two jobs per replica: the second waits at the door while the first one ends.
            lanes = 2 * self._layout.replicas
            async with asyncio.TaskGroup() as lane:
                for _ in range(lanes):
                    lane.create_task(self._lane(group, opened))
        except* Exception as problem:
            self._give_up(group.name, problem.exceptions[0])
        finally:
            if opened:
                await self._fleet.close(group.name)
                self._board.now(f"engine {group.name}", None)

    async def _lane(self, group: Group, opened: bool) -> None:
        while True:
            if not self._ready[group.name]:
                if self._left[group.name] <= 0 or self._queueing:
                    return
                await self._pause(group.name)
                continue
            key = self._ready[group.name].popleft()
            if key not in self._board.answered and not opened:
                self._ready[group.name].appendleft(key)
                return
            try:
                await self._ask(group, key)
            finally:
                self._left[group.name] -= 1
                self._work[group.name].set()

    async def _pause(self, engine: str) -> None:
        """Until there is news of this engine's states; woken now and then to give way."""
        self._work[engine].clear()
        try:
            await asyncio.wait_for(self._work[engine].wait(), timeout=2.0)
        except TimeoutError:
            return

    async def _open_engine(self, group: Group, state: str) -> None:
        self._board.now(f"engine {group.name}", f"engine {group.name}: starting")
        serving = self._plan.spec.resources.engines
        weights = self._weights(self._plan.full_ancestor(state))
        config = EngineConfig(
            name=group.name,
            kind=serving.engine,
            checkpoint=weights.checkpoint,
            revision=weights.revision,
            state_id=weights.state_id,
            dtype=group.dtype,
            max_model_len=serving.context,
            max_lora_rank=group.lora_rank,
            replicas=self._layout.replicas,
            cpus=self._layout.engine_cpus,
            gpus=self._layout.engine_gpus,
            tensor_parallel=serving.tensor_parallel,
            kv_cache_gib=serving.kv_cache_gib,
            gpu_memory_utilization=serving.gpu_memory,
            trust_remote_code=group.trust_remote_code,
        )
        began = time.monotonic()
        about = await self._fleet.open_engine(config)
        self._board.took("start engines", time.monotonic() - began)
        if about.get("notice"):
            self._say(f"engine {group.name}: {about['notice']}")
        self._board.now(f"engine {group.name}", f"engine {group.name}: {about['engine']}")

    def _weights(self, state: str) -> Weights:
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
        hub = split_hub(checkpoint)
        if hub:
            return hub
        if checkpoint.startswith("checkpoints/"):
            return self._results.location(checkpoint), None
        return checkpoint, None

    async def _ask(self, group: Group, key: Key) -> None:
        state, task = key
        probe = self._questions[key]
        try:
            if key not in self._board.answered:
                weights = await asyncio.to_thread(self._weights, state)
                generation = self._plan.spec.generation
                sampling = Sampling(
                    generation.samples,
                    generation.max_tokens,
                    generation.temperature,
                    generation.top_k,
                    generation.top_p,
                    generation.seed,
                )
                prompts = list(enumerate(self._prompts[task]))
                reply = await self._fleet.ask(group.name, weights, prompts, sampling)
                answers = reply.items
                wrong = sorted({a.held_state for a in answers} - {state})
                if wrong:
                    raise WrongState(f"asked of {state}, answered by {', '.join(map(str, wrong))}")
                rows = [_answer_row(a) for a in answers]
                await asyncio.to_thread(
                    self._results.write, "responses", rows, state_id=state, probe_id=probe.probe_id
                )
                self._board.took("generate", reply.seconds)
                self._board.took("swap weights", reply.swapping)
                self._board.question_answered(key)
            else:
                answers = await asyncio.to_thread(self._recorded, state, probe.probe_id)
        except Exception as e:
            self._board.question_lost(key, f"generation failed: {_words(e)}")
            return
        scoring = asyncio.create_task(self._score(key, answers))
        self._scoring.add(scoring)
        scoring.add_done_callback(self._scoring.discard)

    def _recorded(self, state: str, probe: str) -> list[Answer]:
        rows = self._results.read("responses", state_id=state, probe_id=probe).to_pylist()
        return [Answer(**{name: row[name] for name in _ANSWER}) for row in rows]

    async def _score(self, key: Key, answers: list[Answer]) -> None:
        state, task = key
        probe = self._questions[key]
        try:
            config, accuracy = await asyncio.shield(self._judges[task])
            if config.name not in self._open:
                self._open[config.name] = asyncio.ensure_future(self._open_scorer(config))
            await asyncio.shield(self._open[config.name])
            reply = await self._fleet.score(config.name, [_text(a) for a in answers])
            rows = [
                _score_row(answer, score, accuracy)
                for answer, score in zip(answers, reply.items, strict=True)
            ]
            names = {"state_id": state, "probe_id": probe.probe_id, "scorer": probe.scorer}
            await asyncio.to_thread(self._results.write, "scores", rows, **names)
            self._board.took("score", reply.seconds)
            self._board.question_scored(key)
        except Exception as e:
            self._board.question_lost(key, f"scoring failed: {_words(e)}")

    async def _open_scorer(self, config: ScorerConfig) -> None:
        began = time.monotonic()
        self._board.now(f"scorer {config.name}", f"scorer {config.name}: starting")
        about = await self._fleet.open_scorer(config)
        self._board.took("start scorers", time.monotonic() - began)
        if about.get("notice"):
            self._say(f"scorer {config.name}: {about['notice']}")
        self._board.now(f"scorer {config.name}", f"scorer {config.name}: {about['engine']}")

    def _give_up(self, engine: str, problem: BaseException) -> None:
        """The engine cannot be had: every question that waits for it is lost, with the reason."""
        while self._ready[engine]:
            self._board.question_lost(self._ready[engine].popleft(), _words(problem))
            self._left[engine] -= 1


_ANSWER = (
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


def _answer_row(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in _ANSWER}


def _score_row(answer: Answer, score: Score, accuracy: float | None) -> dict[str, Any]:
    return {
        "prompt_index": answer.prompt_index,
        "sample": answer.sample,
        "score": score.score,
        "probability": score.probability,
        "scorer_accuracy": accuracy,
    }


def _text(answer: Answer) -> str:
    """What is judged: the prompt with its continuation."""
    between = "" if not answer.prompt or answer.response[:1].isspace() else " "
    return f"{answer.prompt}{between}{answer.response}"


def _words(error: BaseException) -> str:
    """The last cause of an error in one line; Ray wraps what a replica raised."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1] if str(cause) else ''}"[
        :500
    ]
