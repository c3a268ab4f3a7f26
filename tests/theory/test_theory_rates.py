"""Rates of the continuum by quadrature, Monte Carlo and finite trees."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from theory_cases import ALPHA, K, L, rates

from elastic_ray.theory import (
    LawError,
    Pareto,
    Rates,
    rates_by_monte_carlo,
    rates_by_quadrature,
    rates_from_savings,
    rates_on_finite_trees,
)
from elastic_ray.theory.limits import (
    rates_without_perturbation,
)
from elastic_ray.theory.verdict import AGREEMENT, METHODS, comparisons, grid, signs


class TestQuadrature:
    @given(ALPHA, K.filter(lambda k: k > 1.01))
    def test_without_perturbation_it_equals_the_closed_form(self, alpha, k):
        found, closed = rates(alpha, k, 1, 0), rates_without_perturbation(Pareto(alpha), k)
        for name in Rates.QUANTITIES:
            value, wanted = getattr(found, name)[:2], getattr(closed, name)[:2]
            # The bound plus the rounding error of the closed form: it subtracts terms of about 1,
            # or about 1/k, and divides rates by the union's saving.
            loss = 4e-15 / (k if "slope" in name else 1)
            loss /= closed.saving[0] if name.startswith("gamma") else 1
            assert (np.abs(value - wanted) <= getattr(found, f"{name}_error")[:2] + loss).all()

    @settings(max_examples=30)
    @given(st.floats(2.2, 12), st.floats(0.2, 50), st.floats(0.01, 3))
    def test_it_equals_equations_34_to_37(self, alpha, k, l):
        """The triple integral itself, by Gauss-Laguerre quadrature, x = c exp(v / alpha)."""
        v, weight = special.roots_laguerre(48)
        law, found = Pareto(alpha), rates(alpha, k, 1, l)

        def expect(biased, f):
            x = [
                (law.scale * np.exp(v / (alpha - (i in biased)))).reshape(
                    [-1 if axis == i else 1 for axis in range(3)]
                )
                for i in range(3)
            ]
            return np.einsum("ijk,i,j,k->", f(k * x[0] + x[1] + l * x[2]), weight, weight, weight)

        whole = k + 1 + l
        for j in range(3):
            saving = expect({j}, lambda w: np.log(w / whole))
            assert found.saving[j] == pytest.approx(saving, abs=2e-5)
        for j in range(2):
            slope = expect({j, 2}, lambda w: 1 / w) - 1 / whole
            assert found.saving_slope[j] == pytest.approx(slope, abs=2e-5 / whole)

    @given(ALPHA, K, L)
    def test_slopes_equal_difference_quotients(self, alpha, k, l):
        step = 1e-4 * l
        here = rates(alpha, k, 1, l)
        ahead, behind = rates(alpha, k, 1, l + step), rates(alpha, k, 1, l - step)
        for name in ("saving", "gamma"):
            difference = (getattr(ahead, name) - getattr(behind, name)) / (2 * step)
            noise = (getattr(ahead, f"{name}_error") + getattr(behind, f"{name}_error")) / step
            slope = getattr(here, f"{name}_slope")
            assert (np.abs(difference - slope) <= 1e-4 * np.abs(slope) + noise).all()

    @given(ALPHA, ALPHA, K, L)
    def test_the_two_identities_hold_for_any_laws(self, alpha, other, k, l):
        sizes = np.array([k, 1, l])
        found = rates_by_quadrature([Pareto(alpha), Pareto(other), Pareto(alpha)], sizes)
        whole = sizes.sum()
        assert (sizes * found.gamma).sum() == pytest.approx(whole, rel=1e-11)
        assert abs((sizes * found.saving_slope).sum()) <= 1e-12
        # the derivative of the first, d/dl: sum |D_j| gamma_j' = 1 - gamma_3
        left = (sizes * found.gamma_slope).sum()
        bound = (sizes * found.gamma_slope_error).sum() + found.gamma_error[2]
        assert abs(left - (1 - found.gamma[2])) <= bound + 1e-12

    @given(ALPHA, K, L, st.floats(1e-6, 1e6))
    def test_neither_the_unit_of_sizes_nor_the_order_matters(self, alpha, k, l, unit):
        one, scaled = rates(alpha, k, 1, l), rates(alpha, k * unit, unit, l * unit)
        np.testing.assert_allclose(scaled.gamma, one.gamma, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(scaled.saving_slope * unit, one.saving_slope, rtol=1e-9)
        turned = rates(alpha, l, k, 1, perturbed=0)
        np.testing.assert_allclose(turned.gamma, one.gamma[[2, 0, 1]], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(turned.saving_slope, one.saving_slope[[2, 0, 1]], rtol=1e-7)

    @given(ALPHA)
    def test_a_single_data_set_saves_its_own_entropy(self, alpha):
        found = rates(alpha, 5)
        assert found.saving[0] == pytest.approx(Pareto(alpha).mean_x_log_x, rel=1e-10)
        assert found.gamma[0] == pytest.approx(1, rel=1e-15)

    def test_the_slope_is_infinite_at_size_0_without_variance(self):
        assert rates(1.9, 10, 1, 0).saving_slope[2] == math.inf
        assert np.isfinite(rates(1.9, 10, 1, 0).gamma_slope[:2]).all()
        assert np.isfinite(rates(2.1, 10, 1, 0).gamma_slope).all()

    def test_invalid_sizes_raise(self):
        for sizes in (np.ones(2), np.array([1.0, -1, 1]), np.zeros(3), np.array([1, np.inf, 1])):
            with pytest.raises(LawError, match="sizes"):
                rates_by_quadrature([Pareto(3)] * 3, sizes)


class TestThreeMethods:
    def test_they_agree_within_their_errors_on_the_published_grid(self):
        rows = comparisons()
        assert len(rows) == len(AGREEMENT) * 2 * (len(METHODS) - 1) * len(Rates.QUANTITIES)
        apart = [row for row in rows if not row.apart <= 1]
        assert not apart
        # The errors are small enough to be informative.
        for method, quantity, most in (
            ("monte_carlo", "saving", 2e-3),
            ("monte_carlo", "saving_slope", 2e-3),
            ("monte_carlo", "gamma_slope", 5e-3),
            ("trees", "saving", 5e-3),
            ("trees", "saving_slope", 2e-2),
            ("trees", "gamma_slope", 5e-2),
        ):
            chosen = [row for row in rows if (row.method, row.quantity) == (method, quantity)]
            assert np.median([row.error / abs(row.quadrature) for row in chosen]) < most

    def test_they_distinguish_a_slightly_wrong_law(self):
        sizes = np.array([[30.0, 1, 0.1]])
        wrong = rates_by_quadrature([Pareto(4.02)] * 3, sizes)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            right = method([Pareto(4)] * 3, sizes)
            assert (np.abs(right.saving - wrong.saving) > right.saving_error).any()

    def test_they_agree_for_different_laws_and_perturbed_sets(self):
        laws, sizes = [Pareto(3), Pareto(5)], np.array([[4.0, 1.0]])
        exact = rates_by_quadrature(laws, sizes, 0)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            found = method(laws, sizes, 0)
            for name in Rates.QUANTITIES:
                apart = np.abs(getattr(found, name) - getattr(exact, name))
                assert (apart <= getattr(found, f"{name}_error") + 1e-9).all(), (method, name)

    @pytest.mark.parametrize(("alpha", "absent"), [(1.5, 0.1), (3, 0.001), (3, 0.5), (8, 0.01)])
    def test_they_agree_if_leaves_are_absent(self, alpha, absent):
        sizes = np.array([[k, 1, l] for k in (10, 1e3, 1e6) for l in (1e-3, 1)])
        exact = rates_by_quadrature([Pareto(alpha, absent)] * 3, sizes)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            found = method([Pareto(alpha, absent)] * 3, sizes)
            for name in Rates.QUANTITIES:
                apart = np.abs(getattr(found, name) - getattr(exact, name))[:, :2]
                error = getattr(found, f"{name}_error") + getattr(exact, f"{name}_error")
                assert (apart <= error[:, :2]).all(), (method, name)


def test_a_grid_point_equals_the_rates():
    points = grid(alphas=[3], ks=[10, 100], ls=[0.1])
    assert [(p.alpha, p.k, p.l) for p in points] == [(3, 10, 0.1), (3, 100, 0.1)]
    found, back = rates(3, 100, 1, 0.1), rates(3, 100.1, 1, perturbed=0)
    point = dataclasses.asdict(points[1])
    assert point["gamma2_slope"] == pytest.approx(found.gamma_slope[1], rel=1e-9)
    assert point["ratio"] == pytest.approx(found.gamma_slope[1] / found.gamma_slope[0] / 100)
    assert point["saving_ratio"] == pytest.approx(
        -found.saving_slope[1] / found.saving_slope[0] / 100
    )
    assert point["return2_slope"] == pytest.approx(back.saving_slope[1])
    assert signs(points, "gamma2_slope") == (1, 1, 0)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_errors_propagate_to_first_order(seed, count):
    rng = np.random.default_rng(seed)
    sizes, saving, slope = rng.random(count) + 0.5, rng.random(count) + 1, rng.normal(size=count)
    e, f = 1e-7 * rng.random(count), 1e-7 * rng.random(count)
    exact = rates_from_savings(sizes, saving, slope, -1, e, f)
    moved = rates_from_savings(
        sizes, saving + e * rng.choice([-1, 1], count), slope + f * rng.choice([-1, 1], count)
    )
    for name in ("gamma", "gamma_slope"):
        shift = np.abs(getattr(moved, name) - getattr(exact, name))
        assert (shift <= getattr(exact, f"{name}_error") * (1 + 1e-5) + 1e-13).all()
