"""The losses are the published ones and finite everywhere; the path ends where other solvers end."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from cxr_cft.cft.gradient import STRENGTHS, asl, bce, solution_path
from cxr_cft.cft.standard import standardise

EXTREMES = torch.tensor([-200.0, -20.0, -1.0, 0.0, 1.0, 20.0, 200.0])


def logits_and_labels():
    logits = torch.linspace(-6, 6, 49, dtype=torch.float64).repeat(2).requires_grad_()
    return logits, torch.arange(98).ge(49).double()


def test_bce_and_its_gradient_are_torchs_own_of_probabilities():
    logits, labels = logits_and_labels()
    expected = functional.binary_cross_entropy(torch.sigmoid(logits), labels, reduction="none")
    torch.testing.assert_close(bce(logits, labels), expected)
    (gradient,) = torch.autograd.grad(bce(logits, labels).sum(), logits)
    (reference,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize(
    ("logit", "label", "value"),
    [
        (0.0, 1.0, 0.693147),  # −log ½: γ₊ = 0 weighs nothing down
        (0.0, 0.0, 0.024515),  # p_m = 0.45: −0.45⁴ · log 0.55
        (np.log(3), 0.0, 0.289074),  # p = ¾, p_m = 0.7: −0.7⁴ · log 0.3 = 0.2401 · 1.203973
        (np.log(3), 1.0, 0.287682),  # −log ¾
        (-3.0, 0.0, 0.0),  # p = 0.047 < clip: an easy negative counts for nothing
    ],
)
def test_asl_has_the_values_worked_out_by_hand(logit, label, value):
    loss = asl(torch.tensor([logit], dtype=torch.float64), torch.tensor([label], dtype=torch.float64))
    assert loss.item() == pytest.approx(value, rel=1e-4, abs=1e-12)  # hand-computed to six figures


@pytest.mark.parametrize(("negative", "positive", "clip"), [(4, 0, 0.05), (4, 1, 0.05), (2, 2, 0.2), (1, 0, 0)])
def test_asl_is_the_published_formula(negative, positive, clip):
    logits, labels = logits_and_labels()
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    shifted = np.maximum(p - clip, 0)
    expected = np.where(labels == 1, -((1 - p) ** positive) * np.log(p), -(shifted**negative) * np.log(1 - shifted))
    loss = asl(logits, labels, gamma_negative=negative, gamma_positive=positive, clip=clip)
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-9)


def test_asl_without_focus_and_clip_is_bce():
    logits, labels = logits_and_labels()
    torch.testing.assert_close(asl(logits, labels, gamma_negative=0, gamma_positive=0, clip=0), bce(logits, labels))


def test_asl_has_the_gradient_of_its_values():
    logits, labels = logits_and_labels()
    assert torch.autograd.gradcheck(lambda z: asl(z, labels, gamma_positive=1.0), logits)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize(
    "loss",
    [
        bce,
        asl,
        lambda z, y: asl(z, y, gamma_positive=1.0),
        lambda z, y: asl(z, y, gamma_negative=0.0, clip=0.0),
        lambda z, y: asl(z, y, gamma_positive=2.0, clip=0.0),
    ],
    ids=["bce", "asl", "asl γ₊ 1", "asl plain", "asl γ₊ 2 unclipped"],
)
def test_losses_and_gradients_are_finite_however_sure_the_logit(loss, label):
    logits = EXTREMES.clone().requires_grad_()
    values = loss(logits, torch.full_like(logits, label))
    values.sum().backward()
    assert values.isfinite().all()
    assert logits.grad.isfinite().all()


def test_a_confident_mistake_still_pulls():
    logits = EXTREMES.clone().requires_grad_()
    bce(logits, torch.zeros(7)).sum().backward()
    assert logits.grad[-1] == 1
    logits = EXTREMES.clone().requires_grad_()
    asl(logits, torch.ones(7)).sum().backward()
    assert logits.grad[0] == -1


def small_problem(rows=300, features=4, seed=0, weight=None, bias=0.3):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(rows, features)) @ rng.normal(size=(features, features)) + 2).astype(np.float32)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-(values - 2) @ rng.normal(size=features)))).astype(np.float64)
    return standardise(values, rng.normal(size=features) if weight is None else weight, bias), values, labels


def test_every_point_of_the_path_is_the_optimum_that_scipy_finds():
    problem, _, labels = small_problem()
    columns, offset = problem.features.astype(np.float64), problem.logits.astype(np.float64)
    for strength, found in zip(STRENGTHS, solution_path(bce, problem, labels), strict=True):

        def objective(genes, strength=strength):
            logits = offset + columns @ genes[:-1] + genes[-1]
            residual = 1 / (1 + np.exp(-logits)) - labels
            value = (np.logaddexp(0, logits) - labels * logits).mean() + strength / 2 * genes[:-1] @ genes[:-1]
            return value, np.append(columns.T @ residual / len(labels) + strength * genes[:-1], residual.mean())

        reference = minimize(objective, np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-9})
        np.testing.assert_allclose(found, reference.x, atol=2e-3)
        assert objective(found)[0] - reference.fun < 1e-6


def test_from_a_head_of_zeros_the_pull_is_scikit_learns_ridge():
    problem, _, labels = small_problem(weight=np.zeros(4), bias=0.0)
    path = solution_path(bce, problem, labels)
    for k in (0, len(STRENGTHS) // 2, -1):
        ridge = LogisticRegression(C=1 / (STRENGTHS[k] * len(labels)), tol=1e-8, max_iter=1000)
        ridge.fit(problem.features.astype(np.float64), labels)
        np.testing.assert_allclose(path[k], np.append(ridge.coef_, ridge.intercept_), atol=2e-3)


def test_the_weak_end_forgets_the_trained_head_and_the_strong_end_keeps_its_ranks():
    problem, values, labels = small_problem()
    other, _, _ = small_problem(weight=problem.weight[::-1].copy(), bias=-1.0)
    path, other_path = solution_path(bce, problem, labels), solution_path(bce, other, labels)
    weak, other_weak = problem.head(path[-1]), other.head(other_path[-1])
    assert np.corrcoef(values @ weak[0], values @ other_weak[0])[0, 1] > 0.999
    strong = problem.head(path[0])
    assert spearmanr(values @ strong[0], values @ problem.weight)[0] > 0.99
    assert abs(spearmanr(values @ weak[0], values @ problem.weight)[0]) < 0.9


def test_the_weaker_the_pull_the_further_from_the_trained_head_and_the_better_the_fit():
    problem, values, labels = small_problem()
    path = solution_path(bce, problem, labels)
    distances = np.linalg.norm(path[:, :-1], axis=1)
    assert (np.diff(distances) > -1e-3).all()
    heads = [problem.head(genes) for genes in path]
    fits = [(np.logaddexp(0, z) - labels * z).mean() for z in (values @ weight + bias for weight, bias in heads)]
    assert (np.diff(fits) < 1e-5).all()
    assert fits[0] - fits[-1] > 0.05


def test_a_trained_head_that_fits_already_stays_where_it_is():
    problem, values, labels = small_problem()
    best = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(values.astype(np.float64), labels)
    problem = standardise(values, best.coef_[0], float(best.intercept_[0]))
    assert np.abs(solution_path(bce, problem, labels)).max() < 0.01


def test_a_head_that_is_sure_and_wrong_is_mended():
    problem, values, labels = small_problem()
    wrong = standardise(values, -problem.weight * 200 / np.abs(problem.logits).max(), 0.0)
    assert np.abs(wrong.logits).max() > 150
    for loss in (bce, asl):
        assert np.isfinite(solution_path(loss, wrong, labels)).all()
    mended, bias = wrong.head(solution_path(bce, wrong, labels)[-1])
    reference = LogisticRegression(C=np.inf, max_iter=2000).fit(values.astype(np.float64), labels)
    assert np.corrcoef(values @ mended + bias, reference.decision_function(values))[0, 1] > 0.97


def test_perfectly_separable_labels_give_a_finite_head():
    values = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    path = solution_path(bce, standardise(values, np.zeros(1), 0.0), (values[:, 0] > 0).astype(np.float64))
    assert np.isfinite(path).all()
    assert path[-1, 0] > 1
