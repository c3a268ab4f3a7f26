"""Draws the figures of docs/theory.md as small SVG files.

This is the only module of the package that needs matplotlib. The same numbers give the same file
(see `figure_style`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .figure_style import figure_style, require_matplotlib
from .limits import LargeKLimits, PrintedLimits, critical_alpha, sign_change
from .pareto import Pareto
from .verdict import Comparison, GridPoint

SHOWN = (1.5, 2.5, 3, 5, 8, 20)
"""The values of alpha for which curves are drawn."""

AT_L = 0.01
"""The value of l at which curves over k are drawn."""

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
MINUS = "\N{MINUS SIGN}"
SLOPES = (f"d{GAMMA}1/dl", f"d{GAMMA}2/dl")


def draw(
    folder: Path,
    points: Sequence[GridPoint],
    compared: Sequence[Comparison],
    absent: Sequence[GridPoint],
) -> list[Path]:
    """Draw all figures into `folder` and return their paths.

    `points`, `compared` and `absent` are results of the module `verdict`. Raises `FigureError` if
    matplotlib is not installed.
    """
    require_matplotlib(", or pass --no-figures")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in (
        ("theory_slopes", _slopes(points)),
        ("theory_ratio", _ratio(points)),
        ("theory_signs", _signs(points)),
        ("theory_fixed", _fixed(points)),
        ("theory_absent", _absent(points, absent)),
        ("theory_agreement", _agreement(compared)),
    ):
        path = folder / f"{name}.svg"
        with figure_style():
            figure.savefig(path, metadata={"Date": None})
        # matplotlib leaves trailing blanks, which git reports as whitespace errors
        text = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line.rstrip() for line in text) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def _axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        return figure, figure.subplots(rows, columns, squeeze=False)


_COLOURS = ("#b2182b", "#ef8a62", "#f0b400", "#67a9cf", "#2166ac", "#333333")


def _colour(alpha: float) -> str:
    return _COLOURS[SHOWN.index(alpha)]


def _curve(points: Sequence[GridPoint], alpha: float, l: float = AT_L) -> list[GridPoint]:
    return [p for p in points if p.alpha == alpha and p.l == l]


def _slopes(points: Sequence[GridPoint]) -> Any:
    figure, axes = _axes(1, 2, (8, 3.2))
    for index, (ax, data_set) in enumerate(zip(axes[0], ("gamma1", "gamma2"), strict=True)):
        for alpha in SHOWN:
            curve = _curve(points, alpha)
            limit = getattr(LargeKLimits.of(Pareto(alpha)), f"k_{data_set}_slope")
            values = [p.k * getattr(p, f"{data_set}_slope") for p in curve]
            ax.plot(
                [p.k for p in curve], values, color=_colour(alpha), label=f"{ALPHA} = {alpha:g}"
            )
            ax.axhline(limit, color=_colour(alpha), linewidth=0.7, linestyle=":")
        ax.set(xscale="log", xlabel="k = |D1| / |D2|", ylabel=f"k · {SLOPES[index]}")
        ax.set_title(f"D{index + 1}, l = {AT_L:g}; dotted: limits for large k", fontsize=9)
    axes[0, 1].set_ylim(-0.12, 0.25)
    axes[0, 1].axhline(0, color="black", linewidth=0.8)
    axes[0, 0].legend(fontsize=8)
    return figure


def _ratio(points: Sequence[GridPoint]) -> Any:
    figure, axes = _axes(1, 1, (5.6, 3.6))
    ax = axes[0, 0]
    for alpha in SHOWN:
        curve = _curve(points, alpha)
        for sign, style in ((1, "-"), (-1, "--")):
            values = [abs(p.ratio) if p.ratio * sign > 0 else float("nan") for p in curve]
            label = f"{ALPHA} = {alpha:g}" if sign == 1 else None
            ax.plot([p.k for p in curve], values, style, color=_colour(alpha), label=label)
        ax.axhline(
            1 / PrintedLimits.of(Pareto(alpha)).ratio,
            color=_colour(alpha),
            linewidth=0.7,
            linestyle=":",
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="k = |D1| / |D2|",
        ylabel=f"|{SLOPES[1]}| / (k · {SLOPES[0]})",
    )
    ax.set_title(f"dashed: {SLOPES[1]} < 0; dotted: 1 / (equation 93)", fontsize=9)
    ax.legend(fontsize=8)
    return figure


def _signs(points: Sequence[GridPoint]) -> Any:
    figure, axes = _axes(1, 1, (5.6, 3.6))
    ax = axes[0, 0]
    ks = sorted({p.k for p in points})[::2]
    for sign, colour, label in (
        (1, "#2166ac", f"{SLOPES[1]} > 0"),
        (-1, "#b2182b", f"{SLOPES[1]} < 0"),
    ):
        chosen = [p for p in points if p.l == AT_L and p.k in ks and p.gamma2_slope * sign > 0]
        ax.plot(
            [p.alpha for p in chosen],
            [p.k for p in chosen],
            "o",
            markersize=2.5,
            color=colour,
            label=label,
        )
    least = critical_alpha()
    alphas = [least + 0.02 * 1.35**n for n in range(23) if least + 0.02 * 1.35**n < 20] + [20.0]
    edges = [(alpha, k) for alpha in alphas if (k := sign_change(alpha)) is not None]
    ax.plot(
        [a for a, _ in edges],
        [k for _, k in edges],
        color="black",
        label=f"{SLOPES[1]} = 0 at l = 0",
    )
    ax.axvline(least, color="black", linestyle=":", linewidth=0.8)
    ax.set(yscale="log", xlabel=ALPHA, ylabel="k = |D1| / |D2|", ylim=(8, 1.3e6))
    ax.set_title(f"l = {AT_L:g}; dotted: {ALPHA} = {least:.4f}", fontsize=9)
    ax.legend(fontsize=8, loc="center right", framealpha=0.9)
    return figure


def _fixed(points: Sequence[GridPoint]) -> Any:
    figure, axes = _axes(1, 1, (5.6, 3.4))
    ax = axes[0, 0]
    ks = sorted({p.k for p in points})
    for k, style in ((ks[0], ":"), (ks[-1], "-")):
        for alpha in SHOWN:
            curve = [p for p in points if p.alpha == alpha and p.k == k]
            label = f"{ALPHA} = {alpha:g}" if style == "-" else None
            ax.plot(
                [p.l for p in curve],
                [p.saving_ratio for p in curve],
                style,
                color=_colour(alpha),
                label=label,
            )
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set(xscale="log", xlabel="l = |D3| / |D2|", ylabel=f"dS2/dl / ({MINUS}k · dS1/dl)")
    ax.set_title(f"dotted: k = {ks[0]:g}, full: k = {ks[-1]:g}", fontsize=9)
    ax.legend(fontsize=8)
    return figure


def _absent(points: Sequence[GridPoint], absent: Sequence[GridPoint]) -> Any:
    figure, axes = _axes(1, 1, (5.6, 3.4))
    ax = axes[0, 0]
    shares = sorted({p.absent for p in absent})
    for share, colour in zip([0.0, *shares], _COLOURS, strict=False):
        curve = [p for p in _curve([*points, *absent], 3) if p.absent == share]
        for sign, style in ((1, "-"), (-1, "--")):
            values = [abs(p.ratio) if p.ratio * sign > 0 else float("nan") for p in curve]
            label = f"{share:g} of the leaves absent" if sign == 1 else None
            ax.plot([p.k for p in curve], values, style, color=colour, label=label)
    ks = sorted({p.k for p in points})
    ax.plot(ks, [1 / math.log(k) for k in ks], ":", color="black", label="1 / log k")
    ax.set(xscale="log", yscale="log", xlabel="k = |D1| / |D2|", ylim=(1e-11, 2))
    ax.set_ylabel(f"|{SLOPES[1]}| / (k · {SLOPES[0]})")
    ax.set_title(f"{ALPHA} = 3, l = {AT_L:g}; dashed: {SLOPES[1]} < 0", fontsize=9)
    ax.legend(fontsize=8, loc="lower left")
    return figure


def _agreement(compared: Sequence[Comparison]) -> Any:
    figure, axes = _axes(1, 1, (6.4, 3))
    ax = axes[0, 0]
    quantities = list(dict.fromkeys(c.quantity for c in compared))
    alphas = sorted({c.alpha for c in compared})
    for start, method, colour in ((-0.36, "monte_carlo", "#2166ac"), (0.04, "trees", "#4d9221")):
        greatest = {
            (quantities.index(c.quantity) + start + 0.32 * rank / len(alphas), c.apart)
            for rank, alpha in enumerate(alphas)
            for quantity in quantities
            for c in [_furthest(compared, method, quantity, alpha)]
        }
        ax.plot(*zip(*sorted(greatest), strict=True), "o", markersize=4, color=colour)
        ax.plot([], [], "o", color=colour, label=method.replace("_", " "))
    ax.axhline(1, color="black", linewidth=0.8)
    names = {"saving": "S", "saving_slope": "dS/dl", "gamma": GAMMA, "gamma_slope": f"d{GAMMA}/dl"}
    ax.set_xticks(range(len(quantities)), [names[q] for q in quantities])
    ax.set(yscale="log", ylabel="distance / sum of errors")
    ax.set_ylim(0.01, 2)
    shown = ", ".join(f"{alpha:g}" for alpha in alphas)
    ax.set_title(f"greatest over k, l and D1, D2; dots: {ALPHA} = {shown}", fontsize=9)
    ax.legend(fontsize=8, loc="lower right")
    return figure


def _furthest(
    compared: Sequence[Comparison], method: str, quantity: str, alpha: float
) -> Comparison:
    rows = [c for c in compared if (c.method, c.quantity, c.alpha) == (method, quantity, alpha)]
    return max(rows, key=lambda c: c.apart)
