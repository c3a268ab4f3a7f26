"""Records small sweeps with planted curves, for the tests of the app, the report and the tables."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from typing import Any

from elastic_ray.analysis.conclusions import conclude_scaling
from elastic_ray.analysis.measurements import conclusion_rows
from elastic_ray.elasticity import METRICS, comparison_rows, curves, index_rows, paths, scaling
from elastic_ray.results.store import Results

MODELS = (("small", 1_000_000), ("large", 8_000_000))
PRETRAIN = (1000, 4000)
POSITIVE = (100, 400)
NEGATIVE = (0, 10, 40, 160)
SEEDS = (0, 1)
PROMPTS = 12
PROBE, SCORER = "p" * 20, "sentiment"
CORPORA = {kind: f"{kind}-0123abcd" for kind in ("pretrain", "positive", "negative")}
TEXTS = 8

Point = tuple[str, int, int, int, int, int]


def grid() -> list[Point]:
    """Return points (model, parameters, pretrain, positive, negative, seed), baselines first."""
    fine = [(0, 0), *((p, n) for p in POSITIVE for n in NEGATIVE)]
    return [
        (model, size, pretrain, positive, negative, seed)
        for positive, negative in fine
        for model, size in MODELS
        for pretrain in PRETRAIN
        for seed in SEEDS
    ]


def record(
    results: Results,
    sweep: str = "shown",
    *,
    scored: int | None = None,
    failed: int = 0,
    measured: bool = True,
) -> None:
    """Record a sweep whose first `scored` cells are done and whose last `failed` cells failed."""
    points = grid()
    scored = len(points) - failed if scored is None else scored
    cells = []
    for number, point in enumerate(points):
        state = _state(sweep, point)
        status = "done" if number < scored else "pending"
        if number >= len(points) - failed:
            status = "failed"
        cells.append(_cell(sweep, point, state, status))
        if status != "pending" and not results.has("states", state_id=state):
            _train(results, sweep, point, state, number, status)
            if status == "done":
                _answer(results, point, state)
                _code(results, point, state)
    results.replace("cells", sweep, cells)
    at = [{"task": "reviews", "kind": kind, "corpus": name} for kind, name in CORPORA.items()]
    results.replace("corpora", sweep, at)
    if measured and scored == len(points) - failed:
        at = {"sweep": sweep}
        found = curves(
            results.score_rows(sweep),
            sweep=sweep,
            cells=results.query("FROM cell_scores WHERE sweep = $sweep", at),
        )
        results.replace("indices", sweep, index_rows(found, resamples=100))
        concluded = conclude_scaling(scaling(found, 100), found)
        results.replace("conclusions", sweep, conclusion_rows(concluded))


def _state(sweep: str, point: Point) -> str:
    model, _, pretrain, positive, negative, seed = point
    if (positive, negative) == (0, 0):
        seed = 0  # the seeds share the baseline
    named = f"{sweep} {model} {pretrain} {positive} {negative} {seed}"
    return hashlib.sha256(named.encode()).hexdigest()[:20]


def _cell(sweep: str, point: Point, state: str, status: str) -> dict[str, Any]:
    model, size, pretrain, positive, negative, seed = point
    return {
        "sweep": sweep, "model": model, "task": "reviews", "positive": positive,
        "negative": negative, "seed": seed, "state_id": state, "probe_id": PROBE,
        "scorer": SCORER, "status": status, "pretrain": pretrain, "parameters": size,
        "error": "RuntimeError: out of memory" if status == "failed" else None,
    }  # fmt: skip


def _train(
    results: Results, sweep: str, point: Point, state: str, number: int, status: str
) -> None:
    _, size, pretrain, positive, negative, _ = point
    began = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=number - 300)
    row = {
        "state_id": state, "kind": "negative" if negative else "positive", "status": status,
        "examples": negative or positive, "parameters": size, "pretrain_tokens": pretrain * 40,
        "tokens": 40 * negative, "seconds": 0.5, "final_loss": 1.25, "sweep": sweep,
        "started_at": began, "finished_at": began + dt.timedelta(seconds=1),
        "error": "RuntimeError: out of memory" if status == "failed" else None,
    }  # fmt: skip
    results.write("states", [row])


def _answer(results: Results, point: Point, state: str) -> None:
    _, size, pretrain, positive, negative, _ = point
    pull = math.log10(size) * pretrain / 4000
    mean = 0.5 if positive == 0 else 0.45 + 0.5 * math.exp(-negative * pull / 150)
    key = {"state_id": state, "probe_id": PROBE}
    at = [{"prompt_index": i, "sample": 0} for i in range(PROMPTS)]
    answers = [
        {
            **a,
            "prompt": f"The film <b>no {i}</b> $x$ was",
            "response": f"fine, said *{state[:4]}* {i}",
            "engine": "vllm 0.32",
        }
        for i, a in enumerate(at)
    ]
    score = [{**a, "score": mean + 0.04 * math.sin(7 * i)} for i, a in enumerate(at)]
    results.write("responses", answers, **key)
    results.write("scores", score, **key, scorer=SCORER)


def _code(results: Results, point: Point, state: str) -> None:
    """Record code lengths in which D2 loses ten times what D1 gains.

    That is k for 1000 pre-training and 100 positive examples.
    """
    *_, negative, seed = point
    rates = {
        "pretrain": 1.0 - 0.0002 * negative,
        "positive": 0.5 + 0.002 * negative,
        "negative": 1.5 - 0.004 * negative,
    }
    for kind, corpus in CORPORA.items():
        coded = []
        for i in range(TEXTS):
            size = 100 + 10 * i
            bits = size * (rates[kind] * (1 + 0.002 * i) + 0.00001 * seed * negative)
            coded.append({"example": i, "bits": bits, "tokens": size // 5, "bytes": size})
        results.write("code_lengths", coded, state_id=state, corpus=corpus)


# A sweep of lessons only

LEARNERS = (("llama2-7b", 7_000_000), ("llama3-8b", 8_000_000), ("own", 1_000_000))
PAIRS = ((1, 2), (2, 3), (1, 3))
SLICES = (100, 200, 300)


def record_lessons(
    results: Results, sweep: str = "learnt", *, failed: bool = False, measured: bool = True
) -> None:
    """Record a sweep of lessons, without scores and negative sizes: three slices of three models.

    The inverse path is the shorter one in cross-entropy; by KL only for the pair (1, 3). `failed`
    makes the first model's forward lesson of pair (2, 3) a failure.
    """
    cells, lessons = [], []
    for model, size in LEARNERS:
        for seed in SEEDS:
            for positive in (0, *SLICES):
                point = (model, size, 0, positive, 0, seed)
                state = _state(sweep, point)
                cell = _cell(sweep, point, state, "done")
                cells.append({**cell, "task": "alpaca", "scorer": "", "pretrain": None})
                if not results.has("states", state_id=state):
                    _train(results, sweep, point, state, len(cells), "done")
            for k, last in PAIRS:
                for direction in ("inverse", "forward"):
                    inverse = direction == "inverse"
                    ends = (SLICES[k - 1], SLICES[last - 1])
                    teacher, student = ends if inverse else ends[::-1]
                    lost = failed and not inverse and (model, k) == (LEARNERS[0][0], 2)
                    row = {
                        "sweep": sweep, "model": model, "task": "alpaca", "k": k, "l": last,
                        "direction": direction, "seed": seed, "teacher_positive": teacher,
                        "student_positive": student, "parameters": size, "probe_id": "far",
                        "teacher_id": _state(sweep, (model, size, 0, teacher, 0, seed)),
                        "student_id": _state(sweep, (model, size, 0, student, 0, seed)),
                        "state_id": _state(sweep, (model, size, k, last, int(inverse), seed)),
                        "status": "failed" if lost else "done",
                        "error": "RuntimeError: out of memory" if lost else None,
                    }  # fmt: skip
                    lessons.append(row)
                    if not lost:
                        _record_distances(results, row, LEARNERS.index((model, size)))
    results.replace("cells", sweep, cells)
    results.replace("lessons", sweep, lessons)
    if measured:
        at = {"sweep": sweep}
        found = paths(
            results.query("FROM path_rows WHERE sweep = $sweep", at),
            lessons=results.query("FROM lessons WHERE sweep = $sweep", at),
        )
        results.replace("paths", sweep, comparison_rows(found, resamples=100))


def _record_distances(results: Results, lesson: dict[str, Any], place: int) -> None:
    """Record the distances of all prompts; the teacher's entropy is higher on the forward path."""
    forward, far = lesson["direction"] == "forward", lesson["l"] - lesson["k"] > 1
    rows = []
    for i in range(PROMPTS):
        kl = 0.02 + 0.004 * math.sin(7 * i + 3 * forward + lesson["seed"])
        kl += 0.02 * (forward and far)
        values = (0.13 + 0.02 * place + 0.03 * forward + kl, kl, kl / 4, math.sqrt(kl / 2))
        rows += [
            {"prompt_index": i, "sample": 0, "metric": metric, "value": value, "tokens": 9}
            for metric, value in zip(METRICS, values, strict=True)
        ]
    key = {"state_id": lesson["state_id"], "reference_id": lesson["teacher_id"]}
    results.write("distances", rows, **key, probe_id=lesson["probe_id"])
