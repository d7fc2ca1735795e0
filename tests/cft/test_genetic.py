"""The search ranks known labels better, on the trained head's own scale, and goes on where it was interrupted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cxr_cft.cft import genetic
from cxr_cft.cft.genetic import evolve
from cxr_cft.cft.options import Options
from cxr_cft.cft.standard import settled_bias, standardise
from cxr_cft.metrics import METRICS, auroc

QUICK = Options(generations=20)


def made(features=6, rows=300, seed=0):
    """Features, labels that the first feature decides, and a head that looks at the second."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, features)).astype(np.float32)
    labels = (values[:, 0] + 0.5 * rng.normal(size=rows) > 0.5).astype(np.float64)
    weight = np.zeros(features)
    weight[:2] = 0.3, 1.0
    return values, labels, weight


def posed(values, labels, weight, bias=0.2):
    return standardise(torch.from_numpy(values.copy()), torch.from_numpy(labels.astype(np.float32)), weight, bias)


def search(values, labels, weight, *, seed=0, metric="auroc", options=QUICK, memory=None):
    """What the search returns, and the problem."""
    problem = posed(values, labels, weight)
    return evolve(metric, problem, options, np.random.default_rng(seed), memory), problem


def scores_of(genes, problem, values):
    """(K, N) logits of the heads that genes stand for."""
    weights, biases = problem.heads(genes)
    return weights @ values.astype(np.float64).T + biases[:, None]


# What is found


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_the_metric_itself_is_raised_and_the_last_leader_is_the_best(metric):
    values, labels, weight = made()
    genes, problem = search(values, labels, weight, metric=metric)
    assert genes.dtype == np.float64
    assert genes.shape[1] == 7
    fitness = METRICS[metric](labels, scores_of(genes, problem, values).T)
    assert len(fitness) > 5
    assert fitness[-1] > METRICS[metric](labels, values @ weight) + 0.05
    assert (np.diff(fitness) > -1e-6).all()


def test_the_trained_head_is_not_among_what_comes_back():
    genes, _ = search(*made())
    assert genes[:, :-1].any(axis=1).all()


@pytest.mark.parametrize("seed", range(3))
def test_it_ranks_rows_that_it_never_saw_better_than_the_trained_head(seed):
    values, labels, weight = made(20, 600, seed)
    new_values, new_labels, _ = made(20, 2000, seed + 100)
    genes, problem = search(values, labels, weight, seed=seed, options=Options(generations=60))
    before, after = auroc(new_labels, new_values @ weight), auroc(new_labels, scores_of(genes, problem, new_values)[-1])
    assert after > before + 0.1


def test_it_comes_near_what_logistic_regression_finds_among_many_mixed_features():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(100, 100)) * np.logspace(0, -2, 100)[:, None]
    values = (rng.normal(size=(3000, 100)) @ mixing).astype(np.float32)
    labels = (values @ rng.normal(size=100) / 10 + rng.normal(size=3000) > 0).astype(np.float64)
    weight = rng.normal(size=100) / 30
    genes, problem = search(values, labels, weight, options=Options(generations=100))
    before, after = auroc(labels, values @ weight), auroc(labels, scores_of(genes, problem, values)[-1])
    best = LogisticRegression(max_iter=2000).fit(values.astype(np.float64), labels)
    assert after - before > 0.7 * (auroc(labels, best.decision_function(values)) - before)


def test_a_search_ends_when_the_fitness_has_not_risen_for_as_long_as_its_patience():
    values, _, weight = made()
    labels = (values @ weight > 0.5) * 1.0  # the trained head ranks them perfectly: there is nothing better
    memory = Kept()
    search(values, labels, weight, memory=memory, options=Options(generations=200, patience=5))
    assert memory.saves == 5
    memory = Kept()
    search(*made(), memory=memory, options=Options(generations=200, patience=5))
    best = memory.state["history"]
    assert 5 < len(best) - 1 < 200
    assert best[-1] == best[-6] > best[-7]


def test_what_comes_back_is_who_led_a_generation_once_each():
    memory = Kept()
    genes, problem = search(*made(), memory=memory)
    leaders = memory.state["leaders"]
    assert not leaders[0].any()
    assert len(np.unique(leaders, axis=0)) == len(leaders) == len(genes) + 1
    basis = genetic._directions(problem).double().numpy()
    np.testing.assert_allclose(genes[:, :-1], leaders[1:] @ basis.T, atol=1e-5)


def test_of_a_search_in_which_nobody_takes_the_lead_nothing_comes_back(monkeypatch):
    def start_alone(_, start, *, checkpoint, **options):
        assert options["generations"] == QUICK.generations
        assert callable(checkpoint)
        assert not start.any()

    monkeypatch.setattr(genetic, "maximise", start_alone)
    genes, _ = search(*made())
    assert genes.shape == (0, 7)


def test_leaders_are_made_heads_a_few_at_a_time_to_the_same_genes(monkeypatch):
    whole, _ = search(*made())
    monkeypatch.setattr(genetic, "TOGETHER", 3)
    pieces, _ = search(*made())
    assert len(whole) > 6
    np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-5)


# The bias


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([30, 300]), shift=st.sampled_from([-2.0, 0.0, 30.0]))
def test_the_mean_probability_of_every_tuned_head_is_the_rate_of_positives(seed, rows, shift):
    values, labels, weight = made(rows=rows, seed=seed)
    labels[:2] = 0, 1
    problem = posed(values, labels, weight, shift)
    options = Options(generations=3, population=10)
    genes = evolve("auroc", problem, options, np.random.default_rng(seed))
    logits = scores_of(genes, problem, values)
    np.testing.assert_allclose((1 / (1 + np.exp(-logits))).mean(axis=1), labels.mean(), atol=1e-4)


# The space


def test_directions_are_few_uncorrelated_and_move_the_logits_by_one_standard_deviation():
    values, labels, weight = made(40, 300)
    basis = genetic._directions(problem := posed(values, labels, weight))
    assert basis.shape == (40, genetic.DIRECTIONS)
    along = problem.features @ basis
    np.testing.assert_allclose(along.T @ along / 300, np.eye(genetic.DIRECTIONS), atol=0.02)


def test_every_genome_moves_the_head_within_the_directions():
    genes, problem = search(*made(40, 400))
    basis = genetic._directions(problem).double().numpy()
    outside = genes[:, :-1] - np.linalg.lstsq(basis, genes[:, :-1].T, rcond=None)[0].T @ basis.T
    assert np.abs(outside).max() < 1e-5 < np.abs(genes[:, :-1]).max()


def test_the_first_direction_is_the_one_that_the_labels_point_to():
    values, labels, weight = made(5, 5000)
    problem = posed(values, labels, weight)
    first = genetic._directions(problem)[:, 0].numpy()
    shift = settled_bias(problem.logits[None], labels.mean()).item()
    residual = labels - 1 / (1 + np.exp(-(problem.logits.numpy() + shift)))
    gradient = residual @ problem.features.numpy()
    assert np.corrcoef(first, gradient)[0, 1] > 0.9999  # the gradient of BCE, once the bias is right


@pytest.mark.parametrize(("rows", "features"), [(300, 1), (300, 5), (4, 30), (2, 3), (50, 50)])
def test_there_are_no_more_directions_than_the_features_vary_in(rows, features):
    values, labels, weight = made(max(features, 2), rows)
    labels[:2] = 0, 1
    genes, problem = search(values[:, :features], labels, weight[:features])
    assert genetic._directions(problem).shape[1] <= min(features, rows, genetic.DIRECTIONS)
    assert np.isfinite(genes).all()


def test_a_head_that_leaves_no_residual_can_still_be_moved():
    # At logits of ±200 float32 knows no more than 0 and 1.
    values = np.float32([[200, 1], [-200, 0], [200, 0], [-200, 1]])
    genes, problem = search(values, np.array([1.0, 0, 1, 0]), np.array([1.0, 0]))
    assert genetic._directions(problem).shape == (2, 2)
    assert np.isfinite(genes).all()


def test_where_no_feature_varies_nothing_comes_back():
    genes, _ = search(np.full((10, 3), 2, np.float32), np.arange(10) % 2 * 1.0, np.ones(3))
    assert genes.shape == (0, 4)


def test_a_feature_that_never_varies_keeps_its_weight():
    values, labels, weight = made()
    values[:, 3] = 2.0
    weight[3] = 0.7
    genes, problem = search(values, labels, weight)
    weights, _ = problem.heads(genes)
    assert (weights[:, 3] == 0.7).all()
    assert auroc(labels, values @ weights[-1]) > auroc(labels, values @ weight) + 0.05


# Scale


def test_a_head_of_zeros_moves():
    values, labels, weight = made()
    genes, problem = search(values, labels, np.zeros_like(weight))
    assert auroc(labels, scores_of(genes, problem, values)[-1]) > 0.8


@pytest.mark.parametrize("factor", [2.0**10, 2.0**-10])
def test_a_mutation_is_measured_by_the_data_so_that_other_units_change_nothing(factor):
    values, labels, weight = made()
    genes, plain = search(values, labels, weight)
    rescaled, problem = search(values * np.float32(factor), labels, weight / factor)
    np.testing.assert_array_equal(rescaled, genes)  # powers of two round nothing
    np.testing.assert_allclose(problem.heads(rescaled)[0] * factor, plain.heads(genes)[0])


def test_features_of_very_different_units_are_searched_alike():
    values, labels, weight = made()
    units = np.float32([1e-4, 1e3, 1, 10, 1e-2, 1e5])
    genes, problem = search(values * units, labels, weight / units)
    assert auroc(labels, scores_of(genes, problem, values * units)[-1]) > auroc(labels, values @ weight) + 0.05


def test_a_bigger_head_is_mutated_in_bigger_steps():
    values, labels, weight = made()
    weak, strong = (search(values, labels, weight * size)[0][:, :-1] for size in (0.01, 100.0))
    assert np.abs(strong).max() > 1000 * np.abs(weak).max()


# Determinism, and going on after an interruption


def test_the_same_seed_gives_the_same_genes_and_another_seed_others():
    first, again, other = (search(*made(), seed=seed)[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


class KilledError(Exception):
    """What ends a search before its time."""


class Kept:
    """A memory that keeps every state, until it is told to fail."""

    def __init__(self, dies_at=None, state=None):
        self.dies_at = dies_at
        self.state = state
        self.saves = 0

    def load(self):
        return self.state

    def save(self, state):
        self.saves += 1
        if self.saves == self.dies_at:
            raise KilledError
        self.state = state()


@pytest.mark.parametrize("options", [Options(generations=8), Options(generations=40, patience=3)], ids=["all", "ends"])
def test_interrupted_at_any_generation_it_goes_on_to_the_same_bytes(options):
    problem = made(rows=120)
    whole, _ = search(*problem, options=options)
    steps = Kept()
    assert search(*problem, options=options, memory=steps)[0].tobytes() == whole.tobytes()
    assert steps.saves >= 3
    for generation in range(1, steps.saves + 1):
        memory = Kept(dies_at=generation)
        with pytest.raises(KilledError):
            search(*problem, options=options, memory=memory)
        resumed = Kept(state=memory.state)
        assert search(*problem, options=options, memory=resumed)[0].tobytes() == whole.tobytes()
        # What was saved at is not done again.
        assert resumed.saves == steps.saves - (generation - 1)


def test_interrupted_again_and_again_it_goes_on_to_the_same_bytes():
    problem = made(rows=120)
    whole, _ = search(*problem, options=Options(generations=8))
    state = None
    for _ in range(7):
        memory = Kept(dies_at=2, state=state)
        with pytest.raises(KilledError):
            search(*problem, options=Options(generations=8), memory=memory)
        state = memory.state
    assert search(*problem, options=Options(generations=8), memory=Kept(state=state))[0].tobytes() == whole.tobytes()


def test_a_search_that_had_ended_gives_its_result_again_without_another_generation():
    problem = made()
    memory = Kept()
    whole, _ = search(*problem, memory=memory)
    again = Kept(state=memory.state)
    assert search(*problem, memory=again)[0].tobytes() == whole.tobytes()
    assert again.saves == 0


def test_what_was_kept_is_left_as_it_was():
    memory = Kept()
    search(*made(), memory=memory)
    before = {name: array.tobytes() for name, array in memory.state.items()}
    search(*made(), memory=memory)
    assert {name: array.tobytes() for name, array in memory.state.items()} == before


def test_what_is_kept_is_arrays_of_numbers():
    memory = Kept()
    search(*made(), memory=memory)
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "fiu" for array in memory.state.values())


@pytest.mark.parametrize("metric", ["auroc", "average_precision"])
def test_an_outlier_that_squeezes_the_histograms_does_not_blur_the_fitness(metric, monkeypatch):
    values, labels, weight = made(rows=genetic.BINNED_FROM)
    values[np.flatnonzero(labels)[0], 1] = 1e5  # the trained head looks at this feature
    problem, searches = posed(values, labels, weight), []
    monkeypatch.setattr(genetic, "maximise", lambda fitness, *_, **__: searches.append(fitness))
    evolve(metric, problem, QUICK, np.random.default_rng(0))
    genomes = 0.1 * np.random.default_rng(1).normal(size=(5, 6))
    genes = genetic._Space.of(problem).genes(genomes)
    exact = METRICS[metric](labels, scores_of(genes, problem, values).T)
    np.testing.assert_allclose(searches[0](genomes), exact, atol=1e-3)
