"""Bundles ladders into trials, the units that Ray Tune schedules.

A trial has one start-up of `STARTUP_SECONDS` before its first step. Ladders are bundled until the
start-up is negligible, but not so far that a trainer slot of the cluster is idle. Within a trial,
parents come before the ladders that start from them. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .graph import Dependency, Ladder

STARTUP_SECONDS = 3.0
"""Duration of a trial's start-up in seconds, in a worker group that trained another one before."""

STARTUPS_PER_TRIAL = 10.0
"""Trials are bundled up to this many start-ups of work: the overhead is then below a tenth."""
TRIALS_PER_SLOT = 3
"""Fewest trials per trainer slot, given enough work, so that all slots end at about one time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Ladders that one worker group trains, one after the other."""

    name: str
    task: str
    ladders: tuple[Ladder, ...]
    """Parents before the ladders that start from them."""
    needs: frozenset[Dependency]
    """What must be recorded before the trial can start."""
    seconds: float
    """Estimated duration of its ladders."""
    downstream_seconds: float
    """Estimated duration of its ladders and of all that depend on them. The trial with the largest
    value starts first."""


def bundle(
    ladders: Sequence[Ladder], seconds: Callable[[Ladder], float], slots: int
) -> tuple[Trial, ...]:
    """Return the trials for these ladders on `slots` trainer slots; `seconds` estimates a ladder.

    A ladder is a root unless another ladder of its task makes its parent; a lesson is always a
    root. A root is not bundled with roots that it depends on, because trials would then wait for
    each other. With one slot, trials have up to `STARTUPS_PER_TRIAL` start-ups of work; with
    more, there are at least `TRIALS_PER_SLOT` per slot where the work suffices.
    """
    cost = {ladder.id: seconds(ladder) for ladder in ladders}
    made_by = {rung.state_id: ladder for ladder in ladders for rung in ladder.rungs}
    children: dict[str, list[Ladder]] = defaultdict(list)
    roots: list[Ladder] = []
    parent_of: dict[str, str] = {}
    for ladder in ladders:
        parent = made_by.get(ladder.parent_id)
        if parent is None or parent.task != ladder.task or ladder.stage.answers:
            roots.append(ladder)
        else:
            parent_of[ladder.id] = parent.id
            children[parent.id].append(ladder)
    depth = _depths(ladders, made_by, parent_of)
    limit = STARTUPS_PER_TRIAL * STARTUP_SECONDS
    if slots > 1:
        fair = sum(cost.values()) / (slots * TRIALS_PER_SLOT)
        limit = min(limit, max(fair, STARTUP_SECONDS))
    groups: list[list[Ladder]] = []
    rest: list[list[Ladder]] = []
    pending: dict[str, list[list[Ladder]]] = defaultdict(list)
    downstream = dict(cost)
    order = _parents_first(roots, children)
    for ladder in reversed(order):  # every child before its parent
        taken, left = _fill([ladder], pending.pop(ladder.id, []), cost, limit)
        groups += _pack(left, cost, limit)
        for before in {made_by[state].id for state in ladder.made_from if state in made_by}:
            downstream[before] += downstream[ladder.id]
        if ladder.id in parent_of:
            pending[parent_of[ladder.id]].append(taken)
        else:
            rest.append(taken)
    mergeable: dict[tuple[str, int], list[list[Ladder]]] = defaultdict(list)
    for group in rest:
        mergeable[group[0].task, depth[group[0].id]].append(group)
    for same in mergeable.values():
        groups += _pack(same, cost, limit)
    place = {ladder.id: i for i, ladder in enumerate(order)}
    trials = [_trial(group, place, cost, downstream) for group in groups]
    return tuple(sorted(trials, key=lambda trial: (-trial.downstream_seconds, trial.name)))


def _depths(
    ladders: Iterable[Ladder], made_by: Mapping[str, Ladder], parent_of: Mapping[str, str]
) -> dict[str, int]:
    """Return how many roots have to train, one after the other, before each ladder."""
    depths: dict[str, int] = {}
    for ladder in ladders:  # plans have parents before children
        before = [made_by[state] for state in ladder.made_from if state in made_by]
        step = 0 if ladder.id in parent_of else 1
        depths[ladder.id] = max((depths[each.id] + step for each in before), default=0)
    return depths


def _parents_first(
    roots: Iterable[Ladder], children: Mapping[str, Sequence[Ladder]]
) -> list[Ladder]:
    order: list[Ladder] = []
    stack = list(roots)[::-1]
    while stack:
        ladder = stack.pop()
        order.append(ladder)
        stack.extend(reversed(children.get(ladder.id, ())))
    return order


def _size(group: Sequence[Ladder], cost: Mapping[str, float]) -> float:
    return sum(cost[ladder.id] for ladder in group)


def _fill(
    group: list[Ladder], parts: list[list[Ladder]], cost: Mapping[str, float], limit: float
) -> tuple[list[Ladder], list[list[Ladder]]]:
    """Return `group` plus the parts that fit within the limit, smallest first, and the rest."""
    left: list[list[Ladder]] = []
    total = _size(group, cost)
    for part in sorted(parts, key=lambda p: _size(p, cost)):
        if total + _size(part, cost) <= limit:
            group = group + part
            total += _size(part, cost)
        else:
            left.append(part)
    return group, left


def _pack(parts: list[list[Ladder]], cost: Mapping[str, float], limit: float) -> list[list[Ladder]]:
    """Return the parts packed into groups of at most the limit; parts are not split."""
    groups: list[list[Ladder]] = []
    sizes: list[float] = []
    for part in sorted(parts, key=lambda p: _size(p, cost), reverse=True):
        size = _size(part, cost)
        for i, filled in enumerate(sizes):
            if filled + size <= limit:
                groups[i] += part
                sizes[i] += size
                break
        else:
            groups.append(list(part))
            sizes.append(size)
    return groups


def _trial(
    group: list[Ladder],
    place: Mapping[str, int],
    cost: Mapping[str, float],
    downstream: Mapping[str, float],
) -> Trial:
    ordered = tuple(sorted(group, key=lambda ladder: place[ladder.id]))
    own = {rung.state_id for ladder in ordered for rung in ladder.rungs}
    needs = frozenset(need for ladder in ordered for need in ladder.needs) - own
    first = [ladder for ladder in ordered if ladder.parent_id not in own]
    waiting = sum(downstream[ladder.id] for ladder in first)
    return Trial(ordered[0].id, ordered[0].task, ordered, needs, _size(ordered, cost), waiting)
