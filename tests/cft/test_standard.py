"""Genes count a head's changes in the data's own units, and stand for exactly one head."""

import numpy as np
import pytest

from cxr_cft.cft.standard import standardise


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def problem_of(rng, rows=300, features=5):
    """Features of very different size and place, and a head for them."""
    sizes = 10.0 ** rng.integers(-3, 4, features)
    values = ((rng.normal(size=(rows, features)) + rng.normal(size=features) * 3) * sizes).astype(np.float32)
    return values, rng.normal(size=features) / sizes, float(rng.normal())


def test_no_genes_are_the_trained_head_to_the_last_bit(rng):
    features, weight, bias = problem_of(rng)
    same, same_bias = standardise(features, weight, bias).head(np.zeros(6))
    assert same.tobytes() == weight.tobytes()
    assert same_bias == bias


@pytest.mark.parametrize("seed", range(5))
def test_the_search_sees_the_logits_that_the_head_of_its_genes_gives(seed):
    rng = np.random.default_rng(seed)
    features, weight, bias = problem_of(rng)
    problem = standardise(features, weight, bias)
    genes = rng.normal(size=6)
    searched = problem.logits + problem.features @ genes[:-1] + genes[-1]
    tuned, tuned_bias = problem.head(genes)
    np.testing.assert_allclose(searched, features.astype(np.float64) @ tuned + tuned_bias, atol=2e-4)


def test_one_gene_changes_the_logits_by_one_standard_deviation_and_no_mean(rng):
    features, weight, bias = problem_of(rng)
    problem = standardise(features, weight, bias)
    before = features.astype(np.float64) @ weight + bias
    for gene in np.eye(6)[:-1]:
        tuned, tuned_bias = problem.head(gene)
        change = features.astype(np.float64) @ tuned + tuned_bias - before
        assert change.std() == pytest.approx(1, rel=1e-4)
        assert change.mean() == pytest.approx(0, abs=1e-4)


def test_the_last_gene_moves_the_bias_alone(rng):
    features, weight, bias = problem_of(rng)
    tuned, tuned_bias = standardise(features, weight, bias).head(np.append(np.zeros(5), 0.5))
    assert tuned.tobytes() == weight.tobytes()
    assert tuned_bias == pytest.approx(bias + 0.5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e6])
def test_a_feature_that_never_varies_keeps_its_weight_whatever_the_genes(rng, constant):
    features, weight, bias = problem_of(rng)
    features[:, 2] = constant
    problem = standardise(features, weight, bias)
    assert not problem.features[:, 2].any()
    tuned, tuned_bias = problem.head(np.full(6, 100.0))
    assert tuned[2] == weight[2]
    assert np.isfinite(tuned).all()
    assert np.isfinite(tuned_bias)
    assert (tuned != weight).sum() == 4


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_whether_a_feature_varies_is_judged_by_its_own_size_not_by_its_neighbours(rng, factor):
    features = rng.normal(3, 1, size=(300, 2)).astype(np.float32)
    features[:, 0] *= factor
    problem = standardise(features, np.zeros(2), 0.0)
    np.testing.assert_allclose(problem.features.std(axis=0), 1, rtol=1e-4)


def test_noise_of_the_last_digit_is_no_feature(rng):
    features = np.full((300, 1), 1000, np.float32)
    features[::2] = np.nextafter(np.float32(1000), np.float32(2000))
    assert not standardise(features, np.ones(1), 0.0).features.any()
    features += rng.normal(size=features.shape).astype(np.float32)
    assert standardise(features, np.ones(1), 0.0).features.any()
