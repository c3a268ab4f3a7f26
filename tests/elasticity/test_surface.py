"""Surfaces, and smooth ones fitted to them, against planted ones."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import NEGATIVES, curve, plane

from elastic_ray.elasticity import (
    ElasticityError,
    Estimate,
    fit_surface,
    surface_difference,
    surfaces,
)
from elastic_ray.elasticity.families import families

FAMILIES = {family.name: family for family in families(NEGATIVES[-1])}


def one(curves):
    (found,) = surfaces(curves)
    return found


def hill(positive: float, n: np.ndarray, floor: float = 0.1, scale: float = 80.0) -> np.ndarray:
    start = 0.8 + 0.1 * (positive == 2000)
    return floor + (start - floor) / (1 + (n / scale) ** 1.5)


# Surfaces -----------------------------------------------------------------------------------------


def test_curves_of_a_model_lie_side_by_side_and_holes_stay_holes() -> None:
    short = curve([0.9, 0.5], 0.3, negatives=(0, 48), positive=400)
    full = curve([0.8, 0.7, 0.2], 0.3, negatives=(0, 16, 48), positive=2000)
    other = curve([0.5, 0.1], negatives=(0, 16), model="n")
    found, second = surfaces([full, other, short])
    assert found.positives == (400, 2000) and found.negatives == (0, 16, 48)
    assert found.mean == pytest.approx(np.array([[0.9, np.nan, 0.5], [0.8, 0.7, 0.2]]), nan_ok=True)
    assert found.base == pytest.approx(0.3)
    assert found.key == dataclasses.replace(full.key, positive=0)
    assert second.key.model == "n"


def test_the_difference_of_surfaces_is_paired_and_keeps_holes() -> None:
    noise = {"shared": 0.5, "noise": 0.05, "seeds": 8}
    mine = plane(hill, **noise)
    low = one(plane(lambda p, n: hill(p, n) - 0.1, model="n", **noise))
    holed = dataclasses.replace(mine[0], negatives=NEGATIVES[:-1], scores=mine[0].scores[:, :-1])
    found = surface_difference(one([holed, mine[1]]), low, resamples=200)
    assert found.positives == (400, 2000) and found.negatives == NEGATIVES
    assert found.cells[0][-1] == Estimate()
    for e in (*found.cells[0][:-1], *found.cells[1]):
        assert e.low <= 0.1 + 1e-9 and e.high >= 0.1 - 0.03
        assert e.value == pytest.approx(0.1, abs=0.06)
        assert e.high - e.low < 0.1  # unpaired, it would be 0.4
    with pytest.raises(ElasticityError, match="no positive size in common: 400, 2000 and 7"):
        surface_difference(one(mine), one([curve([1.0, 0.0], negatives=(0, 16), positive=7)]))


# Fits ---------------------------------------------------------------------------------------------

shapes = st.fixed_dictionaries(
    {
        "scale": st.floats(25, 150),
        "growth": st.floats(-0.3, 0.3),
        "steepness": st.floats(0.8, 3.0),
        "early share": st.floats(0.4, 0.7),
        "ratio": st.floats(8.0, 20.0),
    }
)


def planted(name: str, shape: dict[str, float]):
    family = FAMILIES[name]
    levels = {"floor": 0.1, "late": 0.03 if name == "broken line in log" else 0.05, "early": 0.12}

    def of(positive: float, n: np.ndarray) -> np.ndarray:
        stretch = np.full(len(n), (positive / math.sqrt(400 * 2000)) ** shape["growth"])
        share, shared = family.columns(n, stretch, shape)
        return hill(positive, np.zeros(1)) * share + shared @ [levels[x] for x in family.levels]

    return of


@pytest.mark.parametrize("name", FAMILIES)
@given(shape=shapes)
@settings(max_examples=15, deadline=None)
def test_a_planted_surface_is_recovered(name: str, shape: dict[str, float]) -> None:
    of = planted(name, shape)
    found = fit_surface(one(plane(of)), name)
    assert found.error < 2e-3
    between = np.array([5.0, 30.0, 150.0, 600.0])
    for positive in (400, 2000):
        assert found.predict(positive, between) == pytest.approx(of(positive, between), abs=0.02)


def test_parameters_are_those_that_were_planted() -> None:
    shape = {"scale": 50.0, "growth": 0.2}
    of = planted("exponential, then logarithm", shape)
    found = fit_surface(one(plane(of)), "exponential, then logarithm")
    values = {name: e.value for name, e in found.parameters.items()}
    expected = {"start at 400": 0.8, "start at 2000": 0.9, "floor": 0.1, "late": 0.05}
    expected |= shape
    assert values == pytest.approx(expected, rel=1e-4)


def test_what_is_read_off_a_fit_depends_on_no_measured_size() -> None:
    # 1 / (1 + x^1.5) of 0.7 above 0.1: back at the baseline 0.4 where x^1.5 = 4 / 3.
    found = fit_surface(one(plane(hill)), "Hill").derived[400]
    assert found["reversion_size"].value == pytest.approx(80 * (4 / 3) ** (2 / 3), rel=2e-3)
    assert found["half_life"].value == pytest.approx(80 * 0.4 ** (2 / 3), rel=2e-3)
    early = 100 * 0.4 / found["reversion_size"].value
    start = found["reversion_size"].value
    late = 100 * (0.4 - hill(400, np.array([4 * start]))[0]) / (3 * start)
    assert found["early_rate"].value == pytest.approx(early, rel=2e-3)
    assert found["elasticity_index"].value == pytest.approx(math.log(early / late), rel=5e-3)


@pytest.mark.parametrize("name", ["Hill", "two exponentials", "exponential, then logarithm"])
def test_the_family_is_chosen_by_held_out_error(name: str) -> None:
    shape = {"scale": 40.0, "growth": 0.2, "steepness": 2.0, "early share": 0.6, "ratio": 15.0}
    found = fit_surface(one(plane(planted(name, shape))))
    assert set(found.held_out) == set(FAMILIES)
    assert found.held_out[found.family.name] == min(found.held_out.values())
    # A wider family that holds the planted one may tell as well.
    assert found.held_out[name] < 2e-3


def test_a_hole_is_left_out_of_the_fit_and_of_the_residuals() -> None:
    curves = plane(hill)
    curves[1] = curve(
        hill(2000, np.array([0.0, 16, 96, 400, 800])),
        0.4,
        negatives=(0, 16, 96, 400, 800),
        positive=2000,
    )
    found = fit_surface(one(curves), "Hill")
    assert np.isnan(found.residuals[1, [2, 4]]).all() and np.isfinite(found.residuals[0]).all()
    assert np.isfinite(found.fitted).all(), "the fit has a value there"
    assert found.error < 1e-6
    assert np.isnan(found.predict(100, [16.0])).all(), "no prediction outside the positive sizes"
    assert 0.8 < found.predict(900, [0.0])[0] < 0.9


def test_intervals_of_a_fit_shrink_with_prompts() -> None:
    def width(prompts: int) -> float:
        found = fit_surface(one(plane(hill, noise=0.3, prompts=prompts, seeds=30)), "Hill")
        e = found.parameters["scale"]
        assert e.low < e.value < e.high
        return math.log(e.high / e.low)

    assert width(50) / width(800) == pytest.approx(4, rel=0.35)


def test_too_few_cells_are_not_fitted() -> None:
    few = one([curve([0.9, 0.5, 0.1], 0.3, negatives=(0, 16, 48))])
    with pytest.raises(ElasticityError, match="3 scored cells are too few"):
        fit_surface(few)
    with pytest.raises(ElasticityError, match="no family 'Gompertz'"):
        fit_surface(one(plane(hill)), "Gompertz")
