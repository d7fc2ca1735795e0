"""The search ranks known labels better, as validation judges it, on the trained head's own scale."""

import numpy as np
import pytest

from cxr_cft.cft.genetic import search_head
from cxr_cft.cft.standard import standardise
from cxr_cft.metrics import auroc, average_precision


def made(features=6, rows=300, seed=0):
    """Features, labels that the first feature decides, and a head that looks at the second."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, features)).astype(np.float32)
    labels = (values[:, 0] + 0.5 * rng.normal(size=rows) > 0.5).astype(np.float64)
    weight = np.zeros(features)
    weight[:2] = 0.3, 1.0
    return values, labels, weight


def search(values, labels, weight, *, seed=0, metric=auroc, monitor=None):
    problem = standardise(values, weight, 0.2)

    def on_training(genes):
        head, bias = problem.head(genes)
        return float(metric(labels, values @ head.astype(np.float32) + np.float32(bias)))

    genes = search_head(metric, problem, labels, monitor or on_training, np.random.default_rng(seed))
    return genes, problem


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_the_metric_itself_is_raised(metric):
    values, labels, weight = made()
    genes, problem = search(values, labels, weight, metric=metric)
    assert genes.shape == (7,)
    tuned, _ = problem.head(genes)
    assert metric(labels, values @ tuned) > metric(labels, values @ weight) + 0.05


def test_what_validation_likes_is_returned_not_what_fits_best():
    values, labels, weight = made()
    genes, _ = search(values, labels, weight, monitor=lambda genes: -float(np.abs(genes).sum()))
    assert not genes.any()


def test_the_same_seed_gives_the_same_genes_and_another_seed_others():
    first, again, other = (search(*made(), seed=seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("factor", [2.0**10, 2.0**-10])
def test_a_mutation_is_measured_by_the_data_so_that_other_units_change_nothing(factor):
    values, labels, weight = made()
    genes, _ = search(values, labels, weight)
    rescaled, problem = search(values * np.float32(factor), labels, weight / factor)
    np.testing.assert_array_equal(rescaled, genes)  # powers of two round nothing
    np.testing.assert_allclose(problem.head(rescaled)[0] * factor, standardise(values, weight, 0.2).head(genes)[0])


def test_a_bigger_head_is_mutated_in_bigger_steps():
    values, labels, weight = made()
    weak, strong = (search(values, labels, weight * size)[0] for size in (0.01, 100.0))
    assert np.abs(strong).max() > 1000 * np.abs(weak).max()


def test_a_head_of_zeros_moves_though_a_feature_never_varies():
    values, labels, weight = made()
    values[:, 3] = 2.0
    genes, problem = search(values, labels, np.zeros_like(weight))
    tuned, _ = problem.head(genes)
    assert auroc(labels, values @ tuned) > 0.8
    assert tuned[3] == 0


def test_the_bias_is_part_of_the_genome():
    genes, _ = search(*made())
    assert genes[-1] != 0
