"""The short forms of a sweep file, written out: what `spec.Spec` validates.

`task: reviews` names a task; a top-level `scorer:` is every task's that has none of its own, and
`scorer: none` leaves answers unjudged; and
`training:` is flat: the fields of `Recipe` and `Runtime` stand side by side, for all stages, and
`pretrain`, `positive` and so on hold what differs, as in
`{learning_rate: 1.0e-3, zero_stage: 1, pretrain: {global_batch: 32}}`. What cannot be written out
is left as it is, for the schema to refuse.
"""

from __future__ import annotations

from typing import Any

from .training import STAGES, Recipe, Runtime


def expand(data: dict[str, Any]) -> dict[str, Any]:
    """The sweep file's mapping with its short forms written out."""
    data = dict(data)
    if isinstance(data.get("training", {}), dict):
        data["training"] = _training(data.get("training", {}))
    tasks, scorer = data.get("task"), data.pop("scorer", None)
    if isinstance(tasks, (str, dict)):
        tasks = [tasks]
    if isinstance(tasks, list):
        full = [{"name": t} if isinstance(t, str) else t for t in tasks]
        data["task"] = [_with_scorer(t, scorer) for t in full]
    return data


def _with_scorer(task: Any, scorer: Any) -> Any:
    if not isinstance(task, dict):
        return task
    chosen = task.get("scorer", scorer)
    if chosen == "none":
        return {**task, "scorer": None}
    if isinstance(chosen, str):
        chosen = {"name": chosen}
    return {**task, "scorer": chosen} if chosen is not None else task


def _training(flat: dict[str, Any]) -> dict[str, Any]:
    """The nested form of a flat `training:`; leaves unknown keys for pydantic to refuse."""
    everywhere = {k: v for k, v in flat.items() if k in Recipe.model_fields}
    runtime = {k: v for k, v in flat.items() if k in Runtime.model_fields}
    nested: dict[str, Any] = {"runtime": runtime}
    for kind in STAGES:
        own = flat.get(kind, {})
        if isinstance(own, dict):
            base = {**everywhere, "lora": None} if kind == "pretrain" else everywhere
            nested[kind] = {**base, **own}
        else:
            nested[kind] = own
    known = {*Recipe.model_fields, *Runtime.model_fields, *STAGES}
    unknown = {k: v for k, v in flat.items() if k not in known}
    if "runtime" in unknown:  # the schema's word, not the file's
        runtime["runtime"] = unknown.pop("runtime")
    return {**nested, **unknown}
