"""What people call the parts of a plan: training runs and engines by their models, not by ids."""

from __future__ import annotations

from .graph import Lesson, Plan, Point, pairs_of

NAMED_MODELS = 2
"""Models of an engine that its name lists; of the others it has the number."""


def ladder_names(plan: Plan) -> dict[str, str]:
    """Return what each ladder trains, by its id, e.g. "small: negative after 320 positive, seed 0".

    States that several models share have the name of the first.
    """
    points = _first_points(plan)
    sizes: dict[str, set[int | None]] = {}
    for point in plan.points:
        sizes.setdefault(point.model, set()).add(point.pretrain)
    names = {}
    for ladder in plan.ladders:
        point, kind = points[ladder.id], ladder.stage.kind
        if kind == "pretrain":
            names[ladder.id] = f"{point.model}: pre-training"
            continue
        model = point.model
        if point.pretrain is not None and len(sizes[model]) > 1:
            model += f", {point.pretrain:,} pre-trained"
        if isinstance(point, Lesson):
            what = f"lesson of {point.teacher:,} to {point.student:,}"
        else:
            what = f"negative after {point.positive:,} positive" if kind == "negative" else kind
        names[ladder.id] = f"{model}: {what}, seed {ladder.stage.seed}"
    return names


def engine_names(plan: Plan) -> dict[str, str]:
    """Return what each engine group is called: by the models whose states it serves."""
    models: dict[str, list[str]] = {name: [] for name in plan.groups}
    for point in plan.points:
        served = models[plan.states[point.state_id].engine]
        if point.model not in served:
            served.append(point.model)
    names = {}
    for name, group in plan.groups.items():
        served = models[name]
        if group.pairs:
            served = next(each for other, each in models.items() if pairs_of(other) == name)
        listed, more = served[:NAMED_MODELS], len(served) - NAMED_MODELS
        text = " and ".join(listed) if more <= 0 else f"{', '.join(listed)} and {more} more"
        names[name] = f"engine of {text}" + (" (distances)" if group.pairs else "")
    return names


def _first_points(plan: Plan) -> dict[str, Point]:
    """Return the first point of the grid that each trained state belongs to.

    A state that is a point of its own belongs to that one.
    """
    first: dict[str, Point] = {}
    for point in plan.points:
        first.setdefault(point.state_id, point)
    for point in plan.points:
        state: str | None = point.state_id
        while state is not None and (state == point.state_id or state not in first):
            first.setdefault(state, point)
            state = plan.states[state].parent_id
    return first
