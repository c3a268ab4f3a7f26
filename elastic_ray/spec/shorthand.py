"""Writes out the short forms of a sweep file, so that `spec.Spec` can validate it.

- `task: reviews` stands for a list with one task of that name.
- A top-level `scorer:` applies to every task without its own; a scorer may be given by name, and
  `scorer: none` leaves answers unscored.
- `training:` is flat: the fields of `Recipe` and `Runtime` apply to all stages, and `pretrain`,
  `positive` and so on hold what differs, as in
  `{learning_rate: 1.0e-3, zero_stage: 1, pretrain: {global_batch: 32}}`.

Values of a wrong type stay as they are; the schema rejects them.
"""

from __future__ import annotations

from typing import Any

from .training import STAGES, Recipe, Runtime


def expand(data: dict[str, Any]) -> dict[str, Any]:
    """Return the sweep file's mapping with its short forms written out."""
    data = dict(data)
    if isinstance(data.get("training", {}), dict):
        data["training"] = _training(data.get("training", {}))
    tasks, scorer = data.get("task"), data.pop("scorer", None)
    if isinstance(tasks, (str, dict)):
        tasks = [tasks]
    if isinstance(tasks, list):
        full = [{"name": task} if isinstance(task, str) else task for task in tasks]
        data["task"] = [_with_scorer(task, scorer) for task in full]
    return data


def _with_scorer(task: Any, default: Any) -> Any:
    if not isinstance(task, dict):
        return task
    scorer = task.get("scorer", default)
    if scorer == "none":
        return {**task, "scorer": None}
    if isinstance(scorer, str):
        scorer = {"name": scorer}
    return {**task, "scorer": scorer} if scorer is not None else task


def _training(flat: dict[str, Any]) -> dict[str, Any]:
    """Return the nested form of a flat `training:`, with unknown keys for the schema to reject."""
    shared = {k: v for k, v in flat.items() if k in Recipe.model_fields}
    runtime = {k: v for k, v in flat.items() if k in Runtime.model_fields}
    nested: dict[str, Any] = {"runtime": runtime}
    for kind in STAGES:
        own = flat.get(kind, {})
        if isinstance(own, dict):
            base = {**shared, "lora": None} if kind == "pretrain" else shared
            nested[kind] = {**base, **own}
        else:
            nested[kind] = own
    known = {*Recipe.model_fields, *Runtime.model_fields, *STAGES}
    unknown = {k: v for k, v in flat.items() if k not in known}
    if "runtime" in unknown:  # a field of the schema, but not of the flat form: to be rejected
        runtime["runtime"] = unknown.pop("runtime")
    return {**nested, **unknown}
