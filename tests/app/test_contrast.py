"""WCAG 2.2 AA in both themes: the colours of texts, lines and chips, computed without a browser."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import plotly.graph_objects as go
import pytest

pytest.importorskip("streamlit")

from elastic_ray.analysis.palette import (
    CATEGORIES,
    DASHES,
    DONE,
    FAILED,
    GREY,
    MARKERS,
    MATPLOTLIB_DASHES,
    MATPLOTLIB_MARKERS,
    PENDING,
    contrast,
    size_colours,
    size_dashes,
    size_markers,
)
from elastic_ray.app import widgets
from elastic_ray.report.page import _STYLE as REPORT_STYLE
from elastic_ray.report.style import size_looks

CONFIG = Path(widgets.__file__).parents[2] / ".streamlit" / "config.toml"
THEMES = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["theme"]
TEXT, GRAPHIC = 4.5, 3.0
"""The least contrast of texts (1.4.3) and of graphical objects (1.4.11)."""

SIZES = {count: tuple(range(1, count + 1)) for count in range(1, 9)}


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_texts_can_be_read_on_every_ground(name: str) -> None:
    theme = THEMES[name]
    for ground in ("backgroundColor", "secondaryBackgroundColor"):
        assert contrast(theme["textColor"], theme[ground]) >= TEXT
        assert contrast(theme["primaryColor"], theme[ground]) >= TEXT, "selected options"
    assert widgets.TEXT[name] == theme["textColor"], "figures have the theme's text colour"
    on_chips = "#ffffff" if name == "light" else _chip_text()
    assert contrast(on_chips, theme["primaryColor"]) >= TEXT


def _chip_text() -> str:
    found = re.search(r"color: (#[0-9a-f]{6})", widgets._DARK)
    assert found
    return found[1]


def test_captions_have_the_colour_of_texts() -> None:
    """Streamlit draws them at 60% of it, with a contrast of 4.1:1."""
    assert re.search(r'stCaptionContainer"\] \* \{\s*color: inherit !important', widgets._STYLE)


def test_figures_have_no_faint_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    for dark, name in ((False, "light"), (True, "dark")):
        monkeypatch.setattr(widgets, "_dark", lambda dark=dark: dark)
        layout = widgets.readable(go.Figure(go.Scatter(x=[1], y=[1]))).layout
        for colour in (
            layout.font.color,
            layout.legend.font.color,
            layout.xaxis.tickfont.color,
            layout.yaxis.title.font.color,
        ):
            assert contrast(colour, THEMES[name]["backgroundColor"]) >= TEXT


@pytest.mark.parametrize("ground", ["#ffffff", THEMES["dark"]["backgroundColor"]])
def test_lines_and_marks_stand_out_in_both_themes(ground: str) -> None:
    drawn = {*CATEGORIES, GREY, DONE, FAILED, PENDING}
    for sizes in SIZES.values():
        drawn |= set(size_colours(sizes).values())
    assert {colour for colour in drawn if contrast(colour, ground) < GRAPHIC} == set()


def test_sizes_are_told_apart_without_colour() -> None:
    for sizes in SIZES.values():
        looks = list(zip(size_dashes(sizes).values(), size_markers(sizes).values(), strict=True))
        assert len(set(looks)) == len(sizes)
    assert set(MATPLOTLIB_DASHES) == set(DASHES) and set(MATPLOTLIB_MARKERS) == set(MARKERS)


def test_neighbouring_sizes_are_told_apart_with_deuteranopia() -> None:
    for sizes in list(SIZES.values())[1:4]:
        seen = [_deuteranopia(colour) for colour in size_colours(sizes).values()]
        for one, other in itertools.pairwise(seen):
            assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 25


def _deuteranopia(colour: str) -> tuple[float, ...]:
    """Simulate deuteranopia: the matrix of Machado et al. (2009), severity 1, on linear RGB."""
    matrix = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413),
              (-0.011820, 0.042940, 0.968881))  # fmt: skip
    linear = [(int(colour[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)]
    mixed = [sum(m * c for m, c in zip(row, linear, strict=True)) for row in matrix]
    return tuple(255 * max(0.0, min(1.0, m)) ** (1 / 2.2) for m in mixed)


def test_the_report_has_the_same_colours_for_the_same_sizes() -> None:
    pytest.importorskip("matplotlib")
    for sizes in SIZES.values():
        looks = size_looks(sizes)
        assert {size: look["color"] for size, look in looks.items()} == size_colours(sizes)


def test_the_reports_texts_can_be_read_in_both_schemes() -> None:
    for scheme in re.findall(r":root \{(.*?)\}", REPORT_STYLE):
        at = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        at = {k: v if len(v) == 7 else "#" + "".join(2 * c for c in v[1:]) for k, v in at.items()}
        for text in ("ink", "soft"):
            assert contrast(at[text], at["paper"]) >= TEXT
