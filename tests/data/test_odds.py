"""Probabilities become logits and come back, finite at both ends."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from cxr_cft.data.odds import EDGE, expit, logit


@given(st.floats(-30, 30))
def test_logit_undoes_expit(z):
    # Near 1 a float64 resolves e^|z| · 1e-16 of the logit.
    assert logit(expit(np.array(z))) == pytest.approx(z, abs=1e-9 + 3e-16 * np.exp(abs(z)))


@given(st.floats(EDGE, 1 - 1e-12))
def test_expit_undoes_logit(p):
    assert expit(logit(np.array(p))) == pytest.approx(p, rel=1e-12)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_both_are_scipys(values):
    z = np.array(values)
    np.testing.assert_allclose(expit(z), scipy.special.expit(z), rtol=1e-12, atol=1e-300)
    inside = np.clip(scipy.special.expit(z), 1e-12, 1 - 1e-12)
    np.testing.assert_allclose(logit(inside), scipy.special.logit(inside), rtol=1e-9, atol=1e-9)


def test_probabilities_of_0_and_1_and_below_a_floats_reach_have_finite_logits_in_order():
    z = logit(np.array([0.0, 1e-14, 0.5, 1 - 1e-14, 1.0]))
    assert np.isfinite(z).all()
    assert (np.diff(z) > 0).all()
    assert z[2] == 0
    assert expit(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]
