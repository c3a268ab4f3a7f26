"""Theorem 3.13's quantities: three methods, closed forms, and what holds and fails of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from elastic_ray.theory import (
    LawError,
    Pareto,
    Rates,
    rates_by_monte_carlo,
    rates_by_quadrature,
    rates_from_savings,
    rates_on_finite_trees,
)
from elastic_ray.theory.exponential_integral import exponential_integral
from elastic_ray.theory.limits import (
    LargeKLimits,
    PrintedLimits,
    critical_alpha,
    light_tail_rates,
    rates_without_perturbation,
    sign_change,
)
from elastic_ray.theory.verdict import AGREEMENT, METHODS, comparisons, grid, signs

ALPHA = st.floats(1.3, 25)
K = st.floats(0, 6).map(lambda x: 10**x)
L = st.floats(-4, 0).map(lambda x: 10**x)


def rates(alpha: float, *sizes: float, perturbed: int = -1) -> Rates:
    return rates_by_quadrature([Pareto(alpha)] * len(sizes), np.array(sizes), perturbed)


class TestExponentialIntegral:
    @given(st.integers(1, 30), st.floats(-12, 2).map(lambda x: 10**x))
    def test_at_whole_orders_it_is_scipy_s(self, p, x):
        assert exponential_integral(p, np.array([x]))[0] == pytest.approx(
            special.expn(p, x), rel=1e-13
        )

    @given(st.floats(0.01, 30), st.floats(-3, 1.5).map(lambda x: 10**x))
    def test_it_is_its_integral(self, p, x):
        value, _ = integrate.quad(
            lambda t: t ** (p - 2) * math.exp(-x / t), 0, 1, epsabs=0, epsrel=1e-11, limit=200
        )
        assert exponential_integral(p, np.array([x]))[0] == pytest.approx(value, rel=1e-9)

    @given(st.integers(1, 20), st.floats(-14, -1).map(lambda x: 10**x), st.floats(-6, 1))
    def test_it_does_not_jump_at_whole_orders(self, n, eps, log_x):
        x = np.array([10**log_x])
        beside = [exponential_integral(n + sign * eps, x)[0] for sign in (-1, 1)]
        there = exponential_integral(n, x)[0]
        assert beside[1] <= there * (1 + 1e-13) and there <= beside[0] * (1 + 1e-13)
        # |dE_p/dp| < E_p (log(1 + 1/x) + 1)
        assert beside[0] - beside[1] <= 3 * eps * beside[0] * (math.log1p(1 / x[0]) + 1) + 1e-13

    def test_at_zero_and_out_of_range(self):
        at_zero = [exponential_integral(p, np.zeros(1))[0] for p in (0.5, 1, 1.25, 3)]
        assert at_zero == [math.inf, math.inf, 4, 0.5]
        with pytest.raises(ValueError, match="p must lie"):
            exponential_integral(0, np.ones(1))


class TestPareto:
    @given(ALPHA)
    def test_it_has_mean_one_and_the_moments_it_says(self, alpha):
        law = Pareto(alpha)
        u, weight = special.roots_legendre(200)
        # X = c exp(v / rate) with exp(-v) uniform: moments as integrals over (0, 1), graded at 0
        upper, share = ((u + 1) / 2) ** 8, weight / 2 * 8 * ((u + 1) / 2) ** 7
        assert (np.log(law.quantile(upper)) * share).sum() == pytest.approx(law.mean_log, abs=1e-6)
        assert (1 / law.quantile(upper) * share).sum() == pytest.approx(law.mean_inverse, rel=1e-6)
        biased = np.log(law.biased_quantile(upper))
        assert (biased * share).sum() == pytest.approx(law.mean_x_log_x, rel=1e-4)
        assert law.transform(np.zeros(1), 1)[0] == pytest.approx(1, rel=1e-14)
        assert law.transform(np.zeros(1), 2)[0] == pytest.approx(law.mean_square, rel=1e-12)

    @given(ALPHA, st.integers(0, 14))
    def test_equal_bins_are_probabilities_that_hold_its_mass(self, alpha, depth):
        bins = Pareto(alpha).equal_bins(1 << depth)
        half = Pareto(alpha, 0.5).equal_bins(2 << depth)
        np.testing.assert_allclose(half, np.concatenate([bins, np.zeros_like(bins)]), rtol=1e-9)
        assert bins.sum() == pytest.approx(1, rel=1e-12)
        assert (np.diff(bins) <= 0).all()
        wanted = (np.arange(1, bins.size + 1) / bins.size) ** (1 - 1 / alpha)
        np.testing.assert_allclose(np.cumsum(bins), wanted, rtol=1e-11)

    @pytest.mark.parametrize("alpha", [1, 0.5, -3, math.nan, 91])
    def test_shapes_without_a_mean_are_refused(self, alpha):
        with pytest.raises(LawError, match="mean one"):
            Pareto(alpha)

    def test_shares_and_closed_forms_that_are_none_are_refused(self):
        for absent in (-0.1, 1, math.nan):
            with pytest.raises(LawError, match="share of leaves"):
                Pareto(3, absent)
        for closed in (LargeKLimits.of, lambda law: rates_without_perturbation(law, 10)):
            with pytest.raises(LawError, match="every leaf"):
                closed(Pareto(3, 0.1))


class TestQuadrature:
    @given(ALPHA, K.filter(lambda k: k > 1.01))
    def test_without_perturbation_it_is_the_closed_form(self, alpha, k):
        found, closed = rates(alpha, k, 1, 0), rates_without_perturbation(Pareto(alpha), k)
        for name in Rates.QUANTITIES:
            value, wanted = getattr(found, name)[:2], getattr(closed, name)[:2]
            # the bound, and what the closed form itself loses: differences of terms about 1, or
            # about 1/k, over the union's saving where it is a rate
            loss = 4e-15 / (k if "slope" in name else 1)
            loss /= closed.saving[0] if name.startswith("gamma") else 1
            assert (np.abs(value - wanted) <= getattr(found, f"{name}_error")[:2] + loss).all()

    @settings(max_examples=30)
    @given(st.floats(2.2, 12), st.floats(0.2, 50), st.floats(0.01, 3))
    def test_it_is_equations_34_to_37(self, alpha, k, l):
        """The threefold integral itself, by Gauss and Laguerre, x = c exp(v / alpha)."""
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
    def test_slopes_are_derivatives(self, alpha, k, l):
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
    def test_sizes_have_no_unit_and_data_sets_no_order(self, alpha, k, l, unit):
        one, scaled = rates(alpha, k, 1, l), rates(alpha, k * unit, unit, l * unit)
        np.testing.assert_allclose(scaled.gamma, one.gamma, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(scaled.saving_slope * unit, one.saving_slope, rtol=1e-9)
        turned = rates(alpha, l, k, 1, perturbed=0)
        np.testing.assert_allclose(turned.gamma, one.gamma[[2, 0, 1]], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(turned.saving_slope, one.saving_slope[[2, 0, 1]], rtol=1e-7)

    @given(ALPHA)
    def test_alone_a_data_set_saves_its_own_entropy(self, alpha):
        found = rates(alpha, 5)
        assert found.saving[0] == pytest.approx(Pareto(alpha).mean_x_log_x, rel=1e-10)
        assert found.gamma[0] == pytest.approx(1, rel=1e-15)

    def test_the_slope_of_a_set_of_no_size_and_no_variance_is_infinite(self):
        assert rates(1.9, 10, 1, 0).saving_slope[2] == math.inf
        assert np.isfinite(rates(1.9, 10, 1, 0).gamma_slope[:2]).all()
        assert np.isfinite(rates(2.1, 10, 1, 0).gamma_slope).all()

    def test_sizes_that_are_none_are_refused(self):
        for sizes in (np.ones(2), np.array([1.0, -1, 1]), np.zeros(3), np.array([1, np.inf, 1])):
            with pytest.raises(LawError, match="sizes"):
                rates_by_quadrature([Pareto(3)] * 3, sizes)


class TestThreeMethods:
    def test_they_agree_within_their_errors_on_the_published_grid(self):
        rows = comparisons()
        assert len(rows) == len(AGREEMENT) * 2 * (len(METHODS) - 1) * len(Rates.QUANTITIES)
        apart = [row for row in rows if not row.apart <= 1]
        assert not apart
        # and the errors are small enough to say something
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

    def test_they_tell_a_wrong_law_from_the_right_one(self):
        sizes = np.array([[30.0, 1, 0.1]])
        wrong = rates_by_quadrature([Pareto(4.02)] * 3, sizes)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            right = method([Pareto(4)] * 3, sizes)
            assert (np.abs(right.saving - wrong.saving) > right.saving_error).any()

    def test_they_see_different_laws_and_other_perturbed_sets(self):
        laws, sizes = [Pareto(3), Pareto(5)], np.array([[4.0, 1.0]])
        exact = rates_by_quadrature(laws, sizes, 0)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            found = method(laws, sizes, 0)
            for name in Rates.QUANTITIES:
                apart = np.abs(getattr(found, name) - getattr(exact, name))
                assert (apart <= getattr(found, f"{name}_error") + 1e-9).all(), (method, name)

    @pytest.mark.parametrize(("alpha", "absent"), [(1.5, 0.1), (3, 0.001), (3, 0.5), (8, 0.01)])
    def test_they_agree_where_leaves_are_absent(self, alpha, absent):
        sizes = np.array([[k, 1, l] for k in (10, 1e3, 1e6) for l in (1e-3, 1)])
        exact = rates_by_quadrature([Pareto(alpha, absent)] * 3, sizes)
        for method in (rates_by_monte_carlo, rates_on_finite_trees):
            found = method([Pareto(alpha, absent)] * 3, sizes)
            for name in Rates.QUANTITIES:
                apart = np.abs(getattr(found, name) - getattr(exact, name))[:, :2]
                error = getattr(found, f"{name}_error") + getattr(exact, f"{name}_error")
                assert (apart <= error[:, :2]).all(), (method, name)


class TestLimits:
    @given(st.floats(2.3, 20), L)
    def test_large_k(self, alpha, l):
        limit, k = LargeKLimits.of(Pareto(alpha)), 1e6
        found = rates(alpha, k, 1, l)
        near = {"rel": 2e-3, "abs": 2e-4}
        assert k * found.gamma_slope[0] == pytest.approx(limit.k_gamma1_slope, **near)
        assert k * found.gamma_slope[1] == pytest.approx(limit.k_gamma2_slope, **near)
        assert k * found.saving_slope[1] == pytest.approx(limit.k_saving2_slope, **near)
        assert found.gamma[1] == pytest.approx(limit.gamma2, **near)
        assert found.gamma[0] == pytest.approx(1, abs=1e-5)
        still = rates(alpha, k, 1, 0)
        assert k**2 * still.saving_slope[0] == pytest.approx(limit.k2_saving1_slope, rel=1e-2)
        total = (k * still.saving[0] + still.saving[1]) / (k + 1)
        assert k * (still.saving[2] - total) / (k + 1) == pytest.approx(
            limit.k_total_slope, rel=1e-4
        )

    @given(st.floats(3, 20), L)
    def test_a_perturbation_of_some_size_in_savings(self, alpha, l):
        """(k + l) dS_1 + dS_2 = 0 loses its second term to D3's own: the ratio of page and grid."""
        law = Pareto(alpha)
        own, third = law.mean_inverse - 1, law.mean_square * law.mean_inverse - 1
        found, k = rates(alpha, 1e6, 1, l), 1e6
        ratio = found.saving_slope[1] / (-k * found.saving_slope[0])
        assert ratio == pytest.approx(own / (own + l * third), rel=1e-2)

    @given(st.floats(3.5, 20))
    def test_data_like_d1_s_in_normalised_rates(self, alpha):
        law, k = Pareto(alpha), 1e4
        h, g = law.mean_x_log_x, law.mean_log
        found = rates(alpha, k, 1, perturbed=0)
        first = -(h - g) / h
        second = -(law.mean_square * law.mean_inverse - 1) / h - g * (h - g) / h**2
        assert first < 0 and second < 0
        assert k**2 * found.gamma_slope[0] == pytest.approx(first, rel=1e-2)
        assert k**2 * found.gamma_slope[1] == pytest.approx(second, rel=5e-2)

    def test_light_tails(self):
        """gamma's distance from its limit halves as alpha doubles."""
        for sizes in ([10, 1, 0.1], [1000, 1, 0.01], [3, 1, 1]):
            gamma, slope = light_tail_rates(np.array(sizes, float))
            for value, wanted in (("gamma", gamma), ("gamma_slope", slope)):
                far, near = (
                    np.abs(getattr(rates(alpha, *sizes), value) - wanted)[:2] for alpha in (40, 80)
                )
                np.testing.assert_allclose(far / near, 2, rtol=0.1)

    @given(ALPHA)
    def test_equation_86_is_right_and_83_90_and_93_are_not(self, alpha):
        law = Pareto(alpha)
        true, printed = LargeKLimits.of(law), PrintedLimits.of(law)
        assert printed.k_saving2_slope == pytest.approx(true.k_saving2_slope, rel=1e-12)
        assert printed.k2_saving1_slope == pytest.approx(1)
        assert true.k2_saving1_slope < 0 < printed.k2_saving1_slope
        # 90 has no term of order 1/k at all; the true one is (E[log X] - E[X log X]) / k
        assert true.k_total_slope == pytest.approx(-1 / (alpha * (alpha - 1)), rel=1e-9)
        assert abs(printed.k2_total_slope) < 100

    def test_the_critical_shape_parts_the_signs(self):
        least = critical_alpha()
        assert LargeKLimits.of(Pareto(least - 1e-6)).k_gamma2_slope > 0
        assert LargeKLimits.of(Pareto(least + 1e-6)).k_gamma2_slope < 0
        assert sign_change(least - 0.05) is None

    @settings(max_examples=25)
    @given(st.floats(2.7, 25), st.floats(0, 0.5))
    def test_the_sign_changes_where_it_is_said_to(self, alpha, l):
        k = sign_change(alpha, l)
        assert rates(alpha, 0.99 * k, 1, l).gamma_slope[1] > 0
        assert rates(alpha, 1.01 * k, 1, l).gamma_slope[1] < 0


class TestTheorem:
    """What docs/theory.md states, at points drawn from the whole range of the grid."""

    @given(ALPHA.filter(lambda a: a >= 1.5), st.floats(1, 6).map(lambda x: 10**x), L)
    def test_gamma1_rises_and_d1_is_coded_worse(self, alpha, k, l):
        found = rates(alpha, k, 1, l)
        assert found.gamma_slope[0] > found.gamma_slope_error[0]
        assert found.saving_slope[0] < -found.saving_slope_error[0]

    @given(ALPHA.filter(lambda a: a >= 1.5), st.floats(3, 6).map(lambda x: 10**x), L)
    def test_equation_9_fails_by_a_factor_of_k(self, alpha, k, l):
        found = rates(alpha, k, 1, l)
        assert abs(found.gamma_slope[1] / found.gamma_slope[0]) < 3
        assert abs(found.gamma_slope[1] / (k * found.gamma_slope[0])) < 3 / k

    @given(ALPHA, K.filter(lambda k: k > 1.1))
    def test_with_the_denominator_fixed_the_later_version_holds_at_no_perturbation(self, alpha, k):
        found = rates(alpha, k, 1, 0)
        assert found.saving_slope[0] < 0 < found.saving_slope[1]
        assert found.saving_slope[1] == pytest.approx(-k * found.saving_slope[0], rel=1e-9)

    @given(ALPHA, st.floats(1, 5).map(lambda x: 10**x), L)
    def test_data_like_d1_s_undo_d2_k_times_as_fast_as_they_serve_d1(self, alpha, k, l):
        found = rates(alpha, k + l, 1, perturbed=0)
        assert found.saving_slope[1] < 0 < found.saving_slope[0]
        assert found.saving_slope[1] == pytest.approx(-(k + l) * found.saving_slope[0], rel=1e-9)

    @settings(max_examples=40)
    @given(ALPHA.filter(lambda a: a >= 1.5), st.floats(0.01, 0.5), st.floats(-4, -2))
    def test_where_leaves_are_absent_equation_9_holds_but_for_log_k(self, alpha, absent, log_l):
        sizes = np.array([[1e6, 1, 10**log_l], [1e12, 1, 10**log_l]])
        found = rates_by_quadrature([Pareto(alpha, absent)] * 3, sizes)
        k, slopes = sizes[:, 0], found.gamma_slope
        assert (slopes[:, :2] > 0).all()
        # 1 / ratio is affine in log k, with slope 1 / (1 - absent) as l falls to 0
        inverse = k * slopes[:, 0] / slopes[:, 1]
        rise = (inverse[1] - inverse[0]) / math.log(1e6)
        assert rise == pytest.approx(1 / (1 - absent), rel=0.25)


def test_a_grid_point_says_what_the_rates_say():
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
def test_errors_are_carried_to_first_order(seed, count):
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
