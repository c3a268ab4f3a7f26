"""Training and evaluation alternate: each turn ends only if there is work for the other."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the training extra is not installed")
from elastic_ray.driver import turns
from elastic_ray.driver.turns import Turns
from elastic_ray.placement import Phase


class Sweep:
    """Work that is ready, and the phases that were entered."""

    def __init__(self, turns: bool = True) -> None:
        self.trials, self.requests = 0, 0
        self.engines_stopped, self.engines_stop = False, True
        phase = self.phase = Phase.TRAINING if turns else None
        self.entered: list[Phase | None] = []
        self.messages: list[str] = []
        sweep = self

        class Searcher:
            waiting = property(lambda self: sweep.trials)
            idle = property(lambda self: not sweep.trials)

        class Evaluator:
            waiting = property(lambda self: sweep.requests)
            idle = property(lambda self: not sweep.requests)
            engines_stopped = property(lambda self: sweep.engines_stopped)

        async def enter(phase: Phase | None, evaluator: Any) -> bool:
            self.phase = membership.phase = phase
            self.entered.append(phase)
            return phase is not Phase.TRAINING or self.engines_stop

        membership: Any = SimpleNamespace(
            phase=phase, enter=enter, layout=SimpleNamespace(turns=turns), lends=True
        )
        self.membership = membership
        searcher: Any = Searcher()
        evaluator: Any = Evaluator()
        self.turns = Turns(membership, searcher, evaluator, self.messages.append)

    async def step(self, trials: int, requests: int) -> Phase | None:
        """Return the phase after some time with this much ready work."""
        self.trials, self.requests = trials, requests
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(turns, "POLL_SECONDS", 0.001)
            alternating = asyncio.ensure_future(self.turns.alternate())
            await asyncio.sleep(0.03)
            alternating.cancel()
        return self.phase


def test_a_turn_ends_when_its_work_is_done_and_the_other_has_some() -> None:
    async def play() -> None:
        sweep = Sweep()
        assert await sweep.step(trials=2, requests=0) is Phase.TRAINING
        assert await sweep.step(trials=2, requests=5) is Phase.TRAINING, "a turn is long"
        assert await sweep.step(trials=0, requests=5) is Phase.EVALUATION
        assert await sweep.step(trials=1, requests=5) is Phase.EVALUATION
        assert await sweep.step(trials=0, requests=0) is Phase.EVALUATION, "nothing to do"
        assert await sweep.step(trials=1, requests=0) is Phase.TRAINING
        assert await sweep.step(trials=0, requests=0) is Phase.TRAINING
        assert sweep.entered == [Phase.EVALUATION, Phase.TRAINING]
        assert sweep.messages == [
            "training pauses for 5 evaluation request(s)",
            "evaluation pauses for 1 training run(s)",
        ]

    asyncio.run(play())


def test_training_yields_to_states_that_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        sweep = Sweep()
        assert await sweep.step(trials=2, requests=5) is Phase.TRAINING
        monkeypatch.setattr(turns, "LONGEST_TRAINING", 0.0)
        assert await sweep.step(trials=2, requests=0) is Phase.TRAINING, "no state waits"
        assert await sweep.step(trials=2, requests=5) is Phase.EVALUATION

    asyncio.run(play())


def test_places_of_engines_are_lent_while_nothing_is_to_be_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play() -> None:
        sweep = Sweep(turns=False)
        sweep.engines_stopped = True
        assert await sweep.step(trials=0, requests=0) is None, "no trial waits"
        assert await sweep.step(trials=3, requests=1) is None, "a request waits"
        sweep.membership.lends = False
        assert await sweep.step(trials=3, requests=0) is None, "no place for a trainer"
        sweep.membership.lends = True
        assert await sweep.step(trials=3, requests=0) is Phase.TRAINING
        assert await sweep.step(trials=3, requests=1) is Phase.TRAINING, "a loan is long"
        assert await sweep.step(trials=0, requests=1) is None, "no trial waits any more"
        sweep.engines_stopped = False
        assert await sweep.step(trials=3, requests=0) is None, "running engines wait for work"
        monkeypatch.setattr(turns, "IDLE_BEFORE_LENDING", 0.0)
        assert await sweep.step(trials=3, requests=0) is Phase.TRAINING
        monkeypatch.setattr(turns, "SHORTEST_LOAN", 0.0)
        assert await sweep.step(trials=3, requests=1) is None
        sweep.engines_stop = False
        assert await sweep.step(trials=3, requests=0) is None, "engines have work again"
        assert sweep.entered[-2:] == [Phase.TRAINING, None]

    asyncio.run(play())
