"""Formats the verdict as the text that `python -m elastic_ray.theory verdict` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .limits import critical_alpha
from .verdict import Comparison, GridPoint, Limit, exponent, signs

SLOPES = (
    ("gamma1_slope", "d gamma1/dl"),
    ("gamma2_slope", "d gamma2/dl"),
    ("saving1_slope", "dS_1/dl"),
    ("saving2_slope", "dS_2/dl"),
    ("return1_slope", "dS_1/dl, D3 like D1"),
    ("return2_slope", "dS_2/dl, D3 like D1"),
)
"""Slopes of `GridPoint` whose signs are counted, with their names in the text."""


def summary_lines(
    points: Sequence[GridPoint],
    compared: Sequence[Comparison],
    limits: Sequence[Limit],
    absent: Sequence[GridPoint],
) -> Iterator[str]:
    """Yield the lines of the summary of these results of the module `verdict`."""
    yield f"signs of the slopes at the {len(points)} points of the grid"
    yield f"  {'':22}{'> 0':>7}{'< 0':>7}{'within error':>14}"
    for slope, name in SLOPES:
        positive, negative, within_error = signs(points, slope)
        yield f"  {name:22}{positive:7}{negative:7}{within_error:14}"
    yield ""
    yield from _by_alpha(points)
    yield ""
    yield from _limits(limits)
    yield ""
    yield from _fixed(points)
    yield ""
    yield from _absent(absent)
    yield ""
    yield from _agreement(compared)


def _by_alpha(points: Sequence[GridPoint]) -> Iterator[str]:
    at = min((p.l for p in points), key=lambda l: abs(l - 0.01))
    yield f"powers of k over the last decade, and the ratio of equation 9, at l = {at:g}"
    yield (
        f"  {'alpha':>6}{'gamma1':>9}{'gamma2':>9}{'S_1':>9}{'S_2':>9}"
        f"{'ratio at least k':>19}{'at greatest k':>15}{'gamma2 > 0':>12}{'< 0':>6}"
    )
    for alpha in dict.fromkeys(p.alpha for p in points):
        own = [p for p in points if p.alpha == alpha]
        line = [p for p in own if p.l == at]
        powers = [
            exponent(line, f"{name}_slope") for name in ("gamma1", "gamma2", "saving1", "saving2")
        ]
        plus, minus, _ = signs(own, "gamma2_slope")
        yield (
            f"  {alpha:6g}"
            + "".join(f"{power:9.4f}" for power in powers)
            + f"{line[0].ratio:19.3e}{line[-1].ratio:15.3e}{plus:12}{minus:6}"
        )


def _limits(limits: Sequence[Limit]) -> Iterator[str]:
    yield (
        f"limits for large k, at l = 0: the computed value at k = {limits[0].k:g}, the derived "
        "limit, the paper's limit"
    )
    yield (
        f"  {'alpha':>6}{'k gamma1':>18}{'k gamma2':>20}{'k^2 S_1':>28}{'k S_2':>28}"
        f"{'k gamma1/gamma2':>24}{'k*':>11}"
    )
    for row in limits:
        star = "-" if row.k_star is None else f"{row.k_star:.2f}"
        yield (
            f"  {row.alpha:6g}"
            f"{row.k_gamma1:9.5f}{row.k_gamma1_limit:9.5f}"
            f"{row.k_gamma2:10.5f}{row.k_gamma2_limit:10.5f}"
            f"{row.k2_saving1:10.5f}{row.k2_saving1_limit:9.5f}{row.printed_k2_saving1:9.5f}"
            f"{row.k_saving2:10.5f}{row.k_saving2_limit:9.5f}{row.printed_k_saving2:9.5f}"
            f"{row.inverse_ratio:13.3e}{row.printed_inverse_ratio:11.2f}{star:>11}"
        )
    yield f"  d gamma2/dl is negative for all large k above alpha = {critical_alpha():.6f}"


def _fixed(points: Sequence[GridPoint]) -> Iterator[str]:
    yield "dS_2/dl / (-k dS_1/dl), least and greatest over k, by l"
    alphas = sorted({p.alpha for p in points})
    shown = [alpha for alpha in alphas if alpha in (1.5, 2, 2.5, 3, 8, 20)] or alphas
    yield f"  {'l':>9}" + "".join(f"{f'alpha {alpha:g}':>19}" for alpha in shown)
    for l in sorted({p.l for p in points})[::4]:
        cells = []
        for alpha in shown:
            ratios = [p.saving_ratio for p in points if p.alpha == alpha and p.l == l]
            cells.append(f"{f'{min(ratios):.4f} {max(ratios):.4f}':>19}")
        yield f"  {l:9g}" + "".join(cells)
    for p in points:
        if p.saving2_slope < 0:
            yield (
                f"  dS_2/dl < 0 at alpha {p.alpha:g}, k {p.k:g}, l {p.l:g}: {p.saving2_slope:.6f}"
            )


def _absent(points: Sequence[GridPoint]) -> Iterator[str]:
    """Yield the results if data sets lack leaves; the limit of ratio * log k is 1 - absent."""
    alpha, l = 3, 0.001
    line = [p for p in points if p.alpha == alpha and p.l == l]
    ks = sorted({p.k for p in line})[::5]
    yield f"with leaves absent: ratio of equation 9 times log k at alpha = {alpha}, l = {l:g}, by k"
    yield (
        f"  {'absent':>7}"
        + "".join(f"{k:>10g}" for k in ks)
        + f"{'limit':>8}{'gamma1 > 0':>12}{'< 0':>6}{'gamma2 > 0':>12}{'< 0':>6}"
    )
    for absent in dict.fromkeys(p.absent for p in points):
        own = [p for p in points if p.absent == absent]
        ratios = [p.ratio * math.log(p.k) for p in line if p.absent == absent and p.k in ks]
        counts = signs(own, "gamma1_slope")[:2], signs(own, "gamma2_slope")[:2]
        yield (
            f"  {absent:7g}"
            + "".join(f"{ratio:10.5f}" for ratio in ratios)
            + f"{1 - absent:8.3f}"
            + "".join(f"{plus:12}{minus:6}" for plus, minus in counts)
        )
    for p in points:
        if p.gamma1_slope < 0:
            at = f"alpha {p.alpha:g}, absent {p.absent:g}, k {p.k:g}, l {p.l:g}"
            yield f"  d gamma1/dl < 0 at {at}"


def _agreement(compared: Sequence[Comparison]) -> Iterator[str]:
    yield "agreement with quadrature: distance divided by the sum of both errors"
    yield f"  {'':26}{'values':>7}{'above 1':>9}{'greatest':>10}{'median relative error':>24}"
    for method in dict.fromkeys(c.method for c in compared):
        for quantity in dict.fromkeys(c.quantity for c in compared):
            rows = [c for c in compared if c.method == method and c.quantity == quantity]
            relative = sorted(c.error / abs(c.quadrature) for c in rows)
            yield (
                f"  {method.replace('_', ' '):12}{quantity.replace('_', ' '):14}{len(rows):7}"
                f"{sum(c.apart > 1 for c in rows):9}{max(c.apart for c in rows):10.3f}"
                f"{relative[len(relative) // 2]:24.1e}"
            )
