"""The exponential integral and the Pareto law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special
from theory_cases import ALPHA

from elastic_ray.theory import (
    LawError,
    Pareto,
)
from elastic_ray.theory.exponential_integral import exponential_integral
from elastic_ray.theory.limits import (
    LargeKLimits,
    rates_without_perturbation,
)


class TestExponentialIntegral:
    @given(st.integers(1, 30), st.floats(-12, 2).map(lambda x: 10**x))
    def test_whole_orders_equal_scipy(self, p, x):
        assert exponential_integral(p, np.array([x]))[0] == pytest.approx(
            special.expn(p, x), rel=1e-13
        )

    @given(st.floats(0.01, 30), st.floats(-3, 1.5).map(lambda x: 10**x))
    def test_it_equals_its_integral(self, p, x):
        value, _ = integrate.quad(
            lambda t: t ** (p - 2) * math.exp(-x / t), 0, 1, epsabs=0, epsrel=1e-11, limit=200
        )
        assert exponential_integral(p, np.array([x]))[0] == pytest.approx(value, rel=1e-9)

    @given(st.integers(1, 20), st.floats(-14, -1).map(lambda x: 10**x), st.floats(-6, 1))
    def test_it_is_continuous_at_whole_orders(self, n, eps, log_x):
        x = np.array([10**log_x])
        beside = [exponential_integral(n + sign * eps, x)[0] for sign in (-1, 1)]
        there = exponential_integral(n, x)[0]
        assert beside[1] <= there * (1 + 1e-13) and there <= beside[0] * (1 + 1e-13)
        # |dE_p/dp| < E_p (log(1 + 1/x) + 1)
        assert beside[0] - beside[1] <= 3 * eps * beside[0] * (math.log1p(1 / x[0]) + 1) + 1e-13

    def test_at_zero_and_out_of_range(self):
        at_zero = [exponential_integral(p, np.zeros(1))[0] for p in (0.5, 1, 1.25, 3)]
        assert at_zero == [math.inf, math.inf, 4, 0.5]
        with pytest.raises(ValueError, match="p must be above 0"):
            exponential_integral(0, np.ones(1))


class TestPareto:
    @given(ALPHA)
    def test_mean_is_one_and_moments_equal_their_integrals(self, alpha):
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
    def test_equal_bins_are_probabilities_with_the_mass_of_the_law(self, alpha, depth):
        bins = Pareto(alpha).equal_bins(1 << depth)
        half = Pareto(alpha, 0.5).equal_bins(2 << depth)
        np.testing.assert_allclose(half, np.concatenate([bins, np.zeros_like(bins)]), rtol=1e-9)
        assert bins.sum() == pytest.approx(1, rel=1e-12)
        assert (np.diff(bins) <= 0).all()
        wanted = (np.arange(1, bins.size + 1) / bins.size) ** (1 - 1 / alpha)
        np.testing.assert_allclose(np.cumsum(bins), wanted, rtol=1e-11)

    @pytest.mark.parametrize("alpha", [1, 0.5, -3, math.nan, 91])
    def test_shapes_without_mean_one_raise(self, alpha):
        with pytest.raises(LawError, match="mean one"):
            Pareto(alpha)

    def test_invalid_shares_and_missing_closed_forms_raise(self):
        for absent in (-0.1, 1, math.nan):
            with pytest.raises(LawError, match="share of leaves"):
                Pareto(3, absent)
        for closed in (LargeKLimits.of, lambda law: rates_without_perturbation(law, 10)):
            with pytest.raises(LawError, match="every leaf"):
                closed(Pareto(3, 0.1))
