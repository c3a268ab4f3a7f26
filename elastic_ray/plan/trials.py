"""Packing ladders into trials: Ray Tune's unit, one start-up each (design, section 2).

A training run costs `STARTUP_SECONDS` before its first step, so ladders that depend on each other
are bundled until start-up is negligible, but never so far that one of the cluster's trainer slots
stands idle. Within a trial ladders are in tree order: a parent before what starts from it. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .graph import Dependency, Ladder

STARTUP_SECONDS = 20.0
"""A training run before its first step: processes, imports, the worker group."""

WORTH = 10.0
"""A trial is long enough at this many start-ups: overhead is then below a tenth."""
SPREAD = 3
"""Trials per slot at least, where there is work for them, so that slots end together."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Ladders that one worker group walks, `needs` being what must be on record before."""

    name: str
    task: str
    ladders: tuple[Ladder, ...]
    needs: frozenset[Dependency]
    seconds: float
    """Estimated work of its ladders."""
    below: float
    """Estimated work that waits for it, itself included: the longest is released first."""


def bundle(
    ladders: Sequence[Ladder], seconds: Callable[[Ladder], float], slots: int
) -> tuple[Trial, ...]:
    """The trials for these ladders on that many trainer slots; `seconds` estimates a ladder.

    A ladder is a root unless another ladder of its task makes its parent; one that learns a state's
    answers is a root always. Roots that wait for others are not bundled with those: trials would
    wait for each other. With one slot everything goes into
    trials of about `WORTH` start-ups; with more, into at least `SPREAD` per slot.
    """
    cost = {ladder.id: seconds(ladder) for ladder in ladders}
    made_by = {rung.state_id: ladder for ladder in ladders for rung in ladder.rungs}
    children: dict[str, list[Ladder]] = defaultdict(list)
    roots: list[Ladder] = []
    above: dict[str, str] = {}
    for ladder in ladders:
        parent = made_by.get(ladder.parent_id)
        if parent is None or parent.task != ladder.task or ladder.stage.answers:
            roots.append(ladder)
        else:
            above[ladder.id] = parent.id
            children[parent.id].append(ladder)
    depth = _depths(ladders, made_by, above)
    limit = WORTH * STARTUP_SECONDS
    if slots > 1:
        fair = sum(cost.values()) / (slots * SPREAD)
        limit = min(limit, max(fair, STARTUP_SECONDS))
    groups: list[list[Ladder]] = []
    rest: list[list[Ladder]] = []
    pending: dict[str, list[list[Ladder]]] = defaultdict(list)
    below = dict(cost)
    order = _parents_first(roots, children)
    for ladder in reversed(order):  # every child before its parent
        taken, left = _fill([ladder], pending.pop(ladder.id, []), cost, limit)
        groups += _pack(left, cost, limit)
        for before in {made_by[state].id for state in ladder.made_from if state in made_by}:
            below[before] += below[ladder.id]
        if ladder.id in above:
            pending[above[ladder.id]].append(taken)
        else:
            rest.append(taken)
    alike: dict[tuple[str, int], list[list[Ladder]]] = defaultdict(list)
    for group in rest:
        alike[group[0].task, depth[group[0].id]].append(group)
    for same in alike.values():
        groups += _pack(same, cost, limit)
    place = {ladder.id: i for i, ladder in enumerate(order)}
    trials = [_trial(group, place, cost, below) for group in groups]
    return tuple(sorted(trials, key=lambda trial: (-trial.below, trial.name)))


def _depths(
    ladders: Iterable[Ladder], made_by: Mapping[str, Ladder], above: Mapping[str, str]
) -> dict[str, int]:
    """How many roots stand one behind the other before each ladder can train."""
    found: dict[str, int] = {}
    for ladder in ladders:  # parents before children, as plans have them
        before = [made_by[state] for state in ladder.made_from if state in made_by]
        step = 0 if ladder.id in above else 1
        found[ladder.id] = max((found[each.id] + step for each in before), default=0)
    return found


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
    """`group` with as many parts as fit under the limit, smallest first, and those left over."""
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
    """Siblings gathered into groups of at most the limit; a part is never split."""
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
    below: Mapping[str, float],
) -> Trial:
    ordered = tuple(sorted(group, key=lambda ladder: place[ladder.id]))
    own = {rung.state_id for ladder in ordered for rung in ladder.rungs}
    needs = frozenset(need for ladder in ordered for need in ladder.needs) - own
    tops = [ladder for ladder in ordered if ladder.parent_id not in own]
    waiting = sum(below[ladder.id] for ladder in tops)
    return Trial(ordered[0].id, ordered[0].task, ordered, needs, _size(ordered, cost), waiting)
