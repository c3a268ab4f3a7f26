"""Closed forms for large k and light tails, and Theorem 3.13's statements."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theory_cases import ALPHA, K, L, rates

from elastic_ray.theory import (
    Pareto,
    rates_by_quadrature,
)
from elastic_ray.theory.limits import (
    LargeKLimits,
    PrintedLimits,
    critical_alpha,
    light_tail_rates,
    sign_change,
)


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
    def test_ratio_of_savings_at_a_finite_perturbation(self, alpha, l):
        """D3's own slope enters the identity: this gives the ratio in docs/theory.md."""
        law = Pareto(alpha)
        own, third = law.mean_inverse - 1, law.mean_square * law.mean_inverse - 1
        found, k = rates(alpha, 1e6, 1, l), 1e6
        ratio = found.saving_slope[1] / (-k * found.saving_slope[0])
        assert ratio == pytest.approx(own / (own + l * third), rel=1e-2)

    @given(st.floats(3.5, 20))
    def test_normalised_rates_if_new_data_are_like_d1(self, alpha):
        law, k = Pareto(alpha), 1e4
        h, g = law.mean_x_log_x, law.mean_log
        found = rates(alpha, k, 1, perturbed=0)
        first = -(h - g) / h
        second = -(law.mean_square * law.mean_inverse - 1) / h - g * (h - g) / h**2
        assert first < 0 and second < 0
        assert k**2 * found.gamma_slope[0] == pytest.approx(first, rel=1e-2)
        assert k**2 * found.gamma_slope[1] == pytest.approx(second, rel=5e-2)

    def test_light_tails(self):
        """The distance of gamma from its limit halves as alpha doubles."""
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

    def test_the_sign_changes_at_the_critical_shape(self):
        least = critical_alpha()
        assert LargeKLimits.of(Pareto(least - 1e-6)).k_gamma2_slope > 0
        assert LargeKLimits.of(Pareto(least + 1e-6)).k_gamma2_slope < 0
        assert sign_change(least - 0.05) is None

    @settings(max_examples=25)
    @given(st.floats(2.7, 25), st.floats(0, 0.5))
    def test_the_slope_changes_sign_at_the_computed_k(self, alpha, l):
        k = sign_change(alpha, l)
        assert rates(alpha, 0.99 * k, 1, l).gamma_slope[1] > 0
        assert rates(alpha, 1.01 * k, 1, l).gamma_slope[1] < 0


class TestTheorem:
    """The statements of docs/theory.md, at random points of the grid's whole range."""

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
    def test_with_the_denominator_fixed_the_later_version_holds_at_l_0(self, alpha, k):
        found = rates(alpha, k, 1, 0)
        assert found.saving_slope[0] < 0 < found.saving_slope[1]
        assert found.saving_slope[1] == pytest.approx(-k * found.saving_slope[0], rel=1e-9)

    @given(ALPHA, st.floats(1, 5).map(lambda x: 10**x), L)
    def test_data_like_d1_cost_d2_k_plus_l_times_what_d1_gains(self, alpha, k, l):
        found = rates(alpha, k + l, 1, perturbed=0)
        assert found.saving_slope[1] < 0 < found.saving_slope[0]
        assert found.saving_slope[1] == pytest.approx(-(k + l) * found.saving_slope[0], rel=1e-9)

    @settings(max_examples=40)
    @given(ALPHA.filter(lambda a: a >= 1.5), st.floats(0.01, 0.5), st.floats(-4, -2))
    def test_with_absent_leaves_equation_9_holds_up_to_log_k(self, alpha, absent, log_l):
        sizes = np.array([[1e6, 1, 10**log_l], [1e12, 1, 10**log_l]])
        found = rates_by_quadrature([Pareto(alpha, absent)] * 3, sizes)
        k, slopes = sizes[:, 0], found.gamma_slope
        assert (slopes[:, :2] > 0).all()
        # 1 / ratio is affine in log k, with slope 1 / (1 - absent) as l falls to 0
        inverse = k * slopes[:, 0] / slopes[:, 1]
        rise = (inverse[1] - inverse[0]) / math.log(1e6)
        assert rise == pytest.approx(1 / (1 - absent), rel=0.25)
