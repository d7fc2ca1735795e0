"""Genes count a head's changes in the data's own units, and stand for exactly one head."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.cft import standard
from cxr_cft.cft.standard import settled_bias, standardise


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def problem_of(rng, rows=300, features=5):
    """Features of very different size and place, and a head for them."""
    sizes = 10.0 ** rng.integers(-3, 4, features)
    values = ((rng.normal(size=(rows, features)) + rng.normal(size=features) * 3) * sizes).astype(np.float32)
    return values, rng.normal(size=features) / sizes, float(rng.normal())


def posed(features, weight, bias=0.0):
    """The features are copied, since they are overwritten; the labels play no part here."""
    values = torch.from_numpy(features.copy())
    return standardise(values, torch.arange(len(values)).remainder(2).float(), weight, bias)


def head_of(problem, genes):
    weights, biases = problem.heads(genes[None])
    return weights[0], biases[0]


def test_no_genes_are_the_trained_head_to_the_last_bit(rng):
    features, weight, bias = problem_of(rng)
    weights, biases = posed(features, weight, bias).heads(np.zeros((2, 6)))
    assert weights.tobytes() == np.stack([weight, weight]).tobytes()
    assert biases.tolist() == [bias, bias]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([2, 7, 300]))
def test_the_search_sees_the_logits_that_the_heads_of_its_genes_give(seed, rows):
    rng = np.random.default_rng(seed)
    features, weight, bias = problem_of(rng, rows)
    problem = posed(features, weight, bias)
    genes = rng.normal(size=(3, 6))
    columns = torch.cat([problem.features, torch.ones(rows, 1)], dim=1)
    searched = problem.logits + torch.from_numpy(genes).float() @ columns.T
    weights, biases = problem.heads(genes)
    np.testing.assert_allclose(searched, weights @ features.astype(np.float64).T + biases[:, None], atol=1e-3)


def test_one_gene_changes_the_logits_by_one_standard_deviation_and_no_mean(rng):
    features, weight, bias = problem_of(rng)
    problem = posed(features, weight, bias)
    before = features.astype(np.float64) @ weight + bias
    for gene in np.eye(6)[:-1]:
        tuned, tuned_bias = head_of(problem, gene)
        change = features.astype(np.float64) @ tuned + tuned_bias - before
        assert change.std() == pytest.approx(1, rel=1e-4)
        assert change.mean() == pytest.approx(0, abs=1e-4)


def test_the_last_gene_moves_the_bias_alone(rng):
    features, weight, bias = problem_of(rng)
    tuned, tuned_bias = head_of(posed(features, weight, bias), np.append(np.zeros(5), 0.5))
    assert tuned.tobytes() == weight.tobytes()
    assert tuned_bias == pytest.approx(bias + 0.5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.0, 1e6])
def test_a_feature_that_never_varies_keeps_its_weight_whatever_the_genes(rng, constant):
    features, weight, bias = problem_of(rng)
    features[:, 2] = constant
    problem = posed(features, weight, bias)
    assert not problem.features[:, 2].any()
    tuned, tuned_bias = head_of(problem, np.full(6, 100.0))
    assert tuned[2] == weight[2]
    assert np.isfinite(tuned).all()
    assert np.isfinite(tuned_bias)
    assert (tuned != weight).sum() == 4


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_whether_a_feature_varies_is_judged_by_its_own_size_not_by_its_neighbours(rng, factor):
    features = rng.normal(3, 1, size=(300, 2)).astype(np.float32)
    features[:, 0] *= factor
    problem = posed(features, np.zeros(2))
    np.testing.assert_allclose(problem.features.std(0, correction=0), 1, rtol=1e-4)


def test_noise_of_the_last_digit_is_no_feature(rng):
    features = np.full((300, 1), 1000, np.float32)
    features[::2] = np.nextafter(np.float32(1000), np.float32(2000))
    assert not posed(features, np.ones(1)).features.any()
    features += rng.normal(size=features.shape).astype(np.float32)
    assert posed(features, np.ones(1)).features.any()


@pytest.mark.parametrize("place", [0.0, 1e3, 1e5])
def test_a_feature_far_from_zero_is_scaled_as_well_as_one_around_it(rng, place):
    features = (rng.normal(size=(5000, 3)) + place).astype(np.float32)
    problem = posed(features, np.zeros(3))
    exact = features.astype(np.float64)
    np.testing.assert_allclose(problem.spread, exact.std(axis=0), rtol=1e-3)
    np.testing.assert_allclose(problem.features.std(0, correction=0), 1, rtol=1e-3)


def test_rows_that_are_worked_on_in_pieces_give_what_they_give_in_one(rng, monkeypatch):
    features, weight, bias = problem_of(rng)
    whole = posed(features, weight, bias)
    monkeypatch.setattr(standard, "CHUNK", 7)
    pieces = posed(features, weight, bias)
    for name in ("features", "logits", "center", "spread"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-4, atol=1e-4)


def test_no_second_copy_of_the_features_is_made(rng):
    features, weight, bias = problem_of(rng)
    values = torch.from_numpy(features.copy())
    assert standardise(values, torch.zeros(300), weight, bias).features.data_ptr() == values.data_ptr()


@pytest.mark.parametrize(("rows", "features"), [(40, 6), (12, 12), (5, 30), (2, 3)])
def test_axes_make_the_features_uncorrelated_and_are_of_length_one(rng, rows, features):
    mixed = rng.normal(size=(rows, features)) @ rng.normal(size=(features, features))
    problem = posed(mixed.astype(np.float32), np.zeros(features))
    variances, directions = problem.axes
    assert directions.shape == (features, len(variances))
    assert len(variances) <= min(rows - (rows <= features), features)
    along = problem.features @ directions
    np.testing.assert_allclose(along.T @ along / rows, np.diag(variances), atol=2e-4 * features)
    np.testing.assert_allclose(directions.T @ directions, np.eye(len(variances)), atol=2e-3)
    assert (variances.diff() >= 0).all()
    # Nothing but float noise lies outside them.
    np.testing.assert_allclose(variances.sum(), problem.features.square().sum() / rows, rtol=1e-3)


def test_axes_of_repeated_features_are_as_many_as_there_are_different_ones(rng):
    features = np.repeat(rng.normal(size=(50, 3)).astype(np.float32), 4, axis=1)
    variances, _ = posed(features, np.zeros(12)).axes
    assert len(variances) == 3


def test_axes_of_very_many_rows_come_from_an_even_sample_of_them(rng):
    features = rng.normal(size=(4000, 2)).astype(np.float32) @ np.float32([[1, 1], [0, 0.5]])
    problem = posed(features, np.zeros(2))
    variances, _ = problem.axes
    sample = problem.features[:: 4000 // (standard.SAMPLE * 2)]
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(sample.T @ sample / len(sample)), rtol=1e-3)


def test_features_that_never_vary_have_no_axes():
    variances, directions = posed(np.ones((10, 3), np.float32), np.zeros(3)).axes
    assert (variances.shape, directions.shape) == ((0,), (3, 0))


# The bias


@pytest.mark.parametrize("positives", [1, 25, 49_999])
@pytest.mark.parametrize("size", [0.0, 1.0, 100.0])
def test_the_bias_is_found_for_rare_and_frequent_labels_and_for_sure_and_unsure_heads(rng, positives, size):
    logits = torch.from_numpy(rng.normal(size=(3, 50_000)) * size).float() + 7
    rate = positives / 50_000
    shift = settled_bias(logits, rate)
    probabilities = torch.sigmoid(logits.double() + shift[:, None].double()).mean(1)
    np.testing.assert_allclose(probabilities, rate, rtol=1e-3, atol=1e-6)


def test_a_sure_head_whose_mean_probability_is_right_keeps_its_bias():
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0], [1.0, -1.0, 1.0, -1.0]])
    assert settled_bias(logits, 0.5).tolist() == [0.0, 0.0]


def test_settled_genes_have_the_mean_probability_of_the_labels_and_their_own_weights(rng):
    features, weight, bias = problem_of(rng)
    problem = posed(features, weight, bias)
    genes = torch.from_numpy(rng.normal(size=(standard.TOGETHER + 3, 6))).float()
    before = genes.clone()
    settled = problem.settled(genes)
    assert genes.equal(before)
    assert settled[:, :-1].equal(genes[:, :-1])
    logits = problem.logits + settled[:, :-1] @ problem.features.T + settled[:, -1:]
    np.testing.assert_allclose(torch.sigmoid(logits).mean(1), problem.labels.mean(), atol=1e-4)
    # Whatever bias they came with.
    np.testing.assert_allclose(problem.settled(genes + 3 * torch.eye(6)[-1]), settled, atol=1e-4)


def test_no_genes_are_settled_to_no_genes(rng):
    features, weight, bias = problem_of(rng)
    assert posed(features, weight, bias).settled(torch.zeros(0, 6)).shape == (0, 6)
