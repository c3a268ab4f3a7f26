"""Builds curves with known true values: scores per prompt and seed around a planted surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from elastic_ray.elasticity import Curve, CurveKey

NEGATIVES = (0, 16, 48, 96, 192, 400, 800)


def curve(
    means: Sequence[float],
    base: float = 0.0,
    *,
    negatives: Sequence[int] = NEGATIVES,
    prompts: int = 40,
    seeds: int = 2,
    first_prompt: int = 0,
    noise: float = 0.0,
    shared: float = 0.0,
    draw: int = 0,
    parameters: int | None = None,
    pretrain_tokens: int | None = None,
    **key: object,
) -> Curve:
    """Return a curve; `shared` scales the noise common to all scores of a prompt."""
    rng = np.random.default_rng(draw)
    common = shared * np.random.default_rng(99).standard_normal(1000)[first_prompt:][:prompts]
    at = {"sweep": "s", "model": "m", "task": "t", "pretrain": None, "positive": 1000, **key}
    return Curve(
        CurveKey(**at),
        tuple(negatives),
        tuple(range(seeds)),
        tuple(range(first_prompt, first_prompt + prompts)),
        base + common + noise * rng.standard_normal(prompts),
        np.array(means)[:, None]
        + common
        + noise * rng.standard_normal((seeds, len(means), prompts)),
        parameters=parameters,
        pretrain_tokens=pretrain_tokens,
    )


def plane(
    of: Callable[[float, np.ndarray], np.ndarray],
    positives: Sequence[int] = (400, 2000),
    negatives: Sequence[int] = NEGATIVES,
    base: float = 0.4,
    **more: object,
) -> list[Curve]:
    """Return a model's curves, one per positive size, with the means `of(positive, negatives)`."""
    sizes = np.array(negatives, float)
    return [
        curve(of(p, sizes), base, negatives=negatives, positive=p, draw=i, **more)
        for i, p in enumerate(positives)
    ]
