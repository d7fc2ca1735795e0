"""All pulls at once end where other solvers end, in few steps, none of which makes it worse."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from cxr_cft.cft import solver
from cxr_cft.cft.gradient import asl, bce
from cxr_cft.cft.options import PULLS
from cxr_cft.cft.solver import minimise
from cxr_cft.cft.standard import standardise

LOSSES = [bce, asl, partial(asl, gamma_positive=1.0), partial(asl, gamma_negative=0.5, clip=0.0)]
any_loss = pytest.mark.parametrize("loss", LOSSES, ids=["bce", "asl", "asl γ₊ 1", "asl γ₋ ½ unclipped"])


def made(rows=300, features=4, seed=0, weight=None, bias=0.3):
    """A problem of correlated features that are not centred, and the features and labels that it was made of."""
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(rows, features)) @ rng.normal(size=(features, features)) + 2).astype(np.float32)
    labels = rng.random(rows) < 1 / (1 + np.exp(-(values - 2) @ rng.normal(size=features)))
    labels[:2] = 0, 1
    weight = rng.normal(size=features) if weight is None else weight
    return posed(values, labels, weight, bias), values, labels.astype(np.float64)


def posed(values, labels, weight, bias=0.0):
    labels = torch.from_numpy(np.asarray(labels, np.float32))
    return standardise(torch.from_numpy(values.copy()), labels, np.asarray(weight, np.float64), bias)


def solve(loss, problem, pulls=PULLS):
    return minimise(loss, problem, torch.tensor(pulls))[0].double().numpy()


def objective(loss, problem, genes, pull):
    """Of one row of genes, in float64."""
    genes = torch.as_tensor(genes, dtype=torch.float64)
    logits = problem.logits.double() + problem.features.double() @ genes[:-1] + genes[-1]
    return (loss(logits, problem.labels.double()).mean() + pull / 2 * genes[:-1].square().sum()).item()


def by_scipy(loss, problem, pull):
    """The optimum of the same objective by another solver, in float64."""

    def value_and_gradient(genes):
        genes = torch.from_numpy(genes).requires_grad_()
        logits = problem.logits.double() + problem.features.double() @ genes[:-1] + genes[-1]
        value = loss(logits, problem.labels.double()).mean() + pull / 2 * genes[:-1].square().sum()
        value.backward()
        return value.item(), genes.grad.numpy()

    start = np.zeros(problem.features.shape[1] + 1)
    return minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 0})


def ways(loss, problem, pulls):
    """Each pull's own way, from the trained head on, as it goes alone."""
    steps = [minimise(loss, problem, torch.tensor([pull]))[1].double().numpy() for pull in pulls]
    return [np.concatenate([np.zeros((1, own.shape[1])), own]) for own in steps]


@pytest.fixture
def patient(monkeypatch):
    """A solver that goes on until float32 resolves no more, so that where it goes can be compared."""
    monkeypatch.setattr(solver, "TOLERANCE", 1e-8)
    monkeypatch.setattr(solver, "STEPS", 500)


@pytest.mark.usefixtures("patient")
@any_loss
def test_every_pull_comes_to_the_optimum_that_scipy_finds(loss):
    problem, _, _ = made()
    for pull, found in zip(PULLS, solve(loss, problem), strict=True):
        np.testing.assert_allclose(found, by_scipy(loss, problem, pull).x, atol=5e-3, rtol=2e-3)


@pytest.mark.usefixtures("patient")
def test_from_a_head_of_zeros_every_pull_is_scikit_learns_ridge():
    problem, _, labels = made(weight=np.zeros(4), bias=0.0)
    for pull, found in zip(PULLS, solve(bce, problem), strict=True):
        ridge = LogisticRegression(C=1 / (pull * len(labels)), tol=1e-8, max_iter=1000)
        ridge.fit(problem.features.double().numpy(), labels)
        np.testing.assert_allclose(found, np.append(ridge.coef_, ridge.intercept_), atol=2e-3)


@pytest.mark.parametrize("bias", [0.0, -5.0, 40.0])
def test_the_solver_as_it_is_comes_near_scikit_learns_ridge_wherever_the_bias_begins(bias):
    problem, _, labels = made(weight=np.zeros(4), bias=bias)
    for pull, found in zip(PULLS, solve(bce, problem), strict=True):
        ridge = LogisticRegression(C=1 / (pull * len(labels)), tol=1e-8, max_iter=1000)
        ridge.fit(problem.features.double().numpy(), labels)
        reference = np.append(ridge.coef_, ridge.intercept_ - bias)
        assert objective(bce, problem, found, pull) - objective(bce, problem, reference, pull) < 2e-4
        ranked = (problem.features.double().numpy() @ genes[:-1] for genes in (found, reference))
        assert np.corrcoef(*ranked)[0, 1] > 0.999
        assert found[-1] == pytest.approx(reference[-1], abs=0.02)


@any_loss
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([10, 60, 300]), features=st.sampled_from([1, 4, 40]))
def test_no_step_of_any_pull_raises_its_objective(loss, seed, rows, features):
    problem, _, _ = made(rows, features, seed)
    for pull, way in zip(PULLS[::4], ways(loss, problem, PULLS[::4]), strict=True):
        values = np.array([objective(loss, problem, genes, pull) for genes in way])
        # Sums in float32 are what is compared, and the line search forgives their rounding.
        assert (np.diff(values) <= 2e-6 * np.abs(values[:-1]) + 1e-7).all()


@any_loss
def test_every_loss_is_lowered_and_ends_near_the_optimum(loss):
    problem, _, _ = made()
    for pull, found in zip(PULLS, solve(loss, problem), strict=True):
        before, after = objective(loss, problem, np.zeros(5), pull), objective(loss, problem, found, pull)
        gap = after - by_scipy(loss, problem, pull).fun
        assert gap < 0.01 * (before - after)


@any_loss
def test_few_steps_suffice(loss, monkeypatch):
    monkeypatch.setattr(solver, "STEPS", 1000)
    problem, _, _ = made(2000, 30, seed=1, weight=0.1 * np.random.default_rng(2).normal(size=30))
    for way in ways(loss, problem, PULLS):
        assert 2 <= len(way) < 60


def test_no_more_steps_are_taken_than_are_allowed(monkeypatch):
    monkeypatch.setattr(solver, "STEPS", 3)
    problem, _, _ = made()
    _, way = minimise(bce, problem, torch.tensor(PULLS))
    assert len(way) == 3 * len(PULLS)


def test_the_way_holds_every_pull_after_every_step_of_its_own():
    problem, _, _ = made()
    pulls = (10.0, 0.01)
    genes, way = minimise(bce, problem, torch.tensor(pulls))
    strong, weak = (len(one) - 1 for one in ways(bce, problem, pulls))
    assert way.any(1).all()
    assert strong < weak
    assert len(way) == strong + weak
    assert way[2 * strong - 2].equal(genes[0])  # the strong pull's last step; then the weak one goes on alone
    assert way[-1].equal(genes[1])


def test_pulls_do_not_influence_each_other():
    problem, _, _ = made(100, 10, seed=2)
    together = solve(bce, problem)
    for pull, genes in zip(PULLS, together, strict=True):
        np.testing.assert_allclose(solve(bce, problem, (pull,))[0], genes, rtol=2e-3, atol=5e-3)
    np.testing.assert_allclose(solve(bce, problem, PULLS[::-1])[::-1], together, rtol=2e-3, atol=5e-3)


def test_the_weak_end_forgets_the_trained_head_and_the_strong_end_keeps_its_ranks():
    problem, values, labels = made()
    other = posed(values, labels, problem.weight[::-1], -1.0)
    (strong, weak), (_, other_weak) = (one.heads(solve(bce, one)[[0, -1]])[0] for one in (problem, other))
    assert np.corrcoef(values @ weak, values @ other_weak)[0, 1] > 0.999
    assert spearmanr(values @ strong, values @ problem.weight)[0] > 0.99
    assert abs(spearmanr(values @ weak, values @ problem.weight)[0]) < 0.9


def test_the_weaker_the_pull_the_further_from_the_trained_head_and_the_better_the_fit():
    problem, values, labels = made()
    path = solve(bce, problem)
    assert (np.diff(np.linalg.norm(path[:, :-1], axis=1)) > -1e-3).all()
    logits = values @ (heads := problem.heads(path))[0].T + heads[1]
    fits = (np.logaddexp(0, logits) - labels[:, None] * logits).mean(axis=0)
    assert (np.diff(fits) < 1e-5).all()
    assert fits[0] - fits[-1] > 0.05


def test_the_bias_is_free_however_strong_the_pull():
    problem, values, labels = made(bias=9.0)
    weights, biases = problem.heads(solve(bce, problem, (1e4,)))
    probabilities = 1 / (1 + np.exp(-(values @ weights[0] + biases[0])))
    assert probabilities.mean() == pytest.approx(labels.mean(), abs=5e-3)


def test_a_trained_head_that_fits_already_stays_where_it_is():
    _, values, labels = made()
    best = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(values.astype(np.float64), labels)
    problem = posed(values, labels, best.coef_[0], float(best.intercept_[0]))
    assert np.abs(solve(bce, problem)).max() < 0.01


@any_loss
def test_a_head_that_is_sure_and_wrong_stays_finite(loss):
    problem, values, labels = made()
    wrong = posed(values, labels, -problem.weight * 200 / problem.logits.abs().max().item())
    assert wrong.logits.abs().max() > 150
    genes, way = minimise(loss, wrong, torch.tensor(PULLS))
    assert genes.isfinite().all()
    assert way.isfinite().all()


@pytest.mark.parametrize(("opposite", "size", "alike"), [(False, 200, 0.97), (True, 20, 0.95)])
def test_a_head_that_is_sure_and_wrong_is_mended(opposite, size, alike):
    problem, values, labels = made()
    best = LogisticRegression(C=np.inf, max_iter=2000).fit(values.astype(np.float64), labels)
    wrong = -best.coef_[0] if opposite else -problem.weight
    sure = posed(values, labels, wrong * size / np.abs(values @ wrong).max())
    weights, biases = sure.heads(solve(bce, sure)[-1:])
    logits = values @ weights[0] + biases[0]
    assert np.corrcoef(logits, best.decision_function(values))[0, 1] > alike
    assert (1 / (1 + np.exp(-logits))).mean() == pytest.approx(labels.mean(), abs=0.02)


@any_loss
def test_perfectly_separable_labels_give_a_finite_head(loss):
    values = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    path = solve(loss, posed(values, values[:, 0] > 0, np.zeros(1)))
    assert np.isfinite(path).all()
    assert path[-1, 0] > 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("rows", [2, 3, 20])
def test_more_features_than_rows_are_fitted_as_scikit_learn_does(rows):
    problem, _, labels = made(rows, 50, seed=3, weight=np.zeros(50), bias=0.0)
    for pull, found in zip(PULLS, solve(bce, problem), strict=True):
        ridge = LogisticRegression(C=1 / (pull * rows), tol=1e-10, max_iter=5000)
        ridge.fit(problem.features.double().numpy(), labels)
        reference = np.append(ridge.coef_, ridge.intercept_)
        assert objective(bce, problem, found, pull) - objective(bce, problem, reference, pull) < 2e-5
        if pull >= 0.01:  # below it the labels are all but separated, and the bottom is flat
            np.testing.assert_allclose(found, reference, rtol=5e-3, atol=5e-3)


@pytest.mark.usefixtures("patient")
def test_a_feature_twice_is_no_obstacle_and_shares_what_it_had_alone():
    _, values, labels = made()
    single = posed(values, labels, np.zeros(4))
    double = posed(np.concatenate([values, values], axis=1), labels, np.zeros(8))
    alone, shared = solve(bce, single, (0.01,))[0], solve(bce, double, (0.02,))[0]
    np.testing.assert_allclose(shared[:4], alone[:4] / 2, atol=1e-3)
    np.testing.assert_allclose(shared[4:8], alone[:4] / 2, atol=1e-3)


@pytest.mark.parametrize("pull", [1e-7, 1e-8])
def test_next_to_no_pull_ends_near_the_solution_without_one(pull):
    problem, values, labels = made()
    weights, biases = problem.heads(solve(bce, problem, (pull,)))
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(values.astype(np.float64), labels)
    logits, reference = values @ weights[0] + biases[0], free.decision_function(values)
    np.testing.assert_allclose(logits, reference, atol=0.1 * reference.std())
    fits = [(np.logaddexp(0, found) - labels * found).mean() for found in (logits, reference)]
    assert fits[0] - fits[1] < 2e-4


def test_a_trained_head_at_the_optimum_takes_no_step():
    labels = np.arange(40) % 4 == 0
    genes, way = minimise(bce, posed(np.ones((40, 3), np.float32), labels, np.zeros(3), np.log(1 / 3)), torch.ones(2))
    assert (genes.shape, way.shape) == ((2, 4), (0, 4))
    assert not genes.any()


def test_features_that_never_vary_leave_the_bias_alone_to_move():
    labels = np.arange(40) % 4 == 0
    genes = solve(bce, posed(np.ones((40, 3), np.float32), labels, [1.0, 0.0, 0.0]))
    assert not genes[:, :-1].any()
    np.testing.assert_allclose(1 + genes[:, -1], np.log(1 / 3), atol=2e-2)


def test_rare_positives_are_no_obstacle():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5000, 3)).astype(np.float32)
    labels = np.zeros(5000)
    labels[np.argsort(values[:, 0] + rng.normal(size=5000))[-10:]] = 1
    problem = posed(values, labels, np.zeros(3))
    pulls = PULLS[4:11]
    for pull, found in zip(pulls, solve(bce, problem, pulls), strict=True):
        reference = by_scipy(bce, problem, pull)
        lowest_of_a_constant = objective(bce, problem, [0, 0, 0, np.log(10 / 4990)], pull)
        assert objective(bce, problem, found, pull) - reference.fun < 0.005 * lowest_of_a_constant
        assert found[-1] == pytest.approx(reference.x[-1], abs=0.3)
