"""The losses are the published ones, and finite everywhere."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from cxr_cft.cft.gradient import asl, bce, descend, loss_of
from cxr_cft.cft.options import METHODS, Options
from cxr_cft.cft.standard import standardise

EXTREMES = torch.tensor([-200.0, -100.0, -20.0, -1.0, 0.0, 1.0, 20.0, 100.0, 200.0])


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


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_bce_and_its_gradient_are_torchs_own_of_any_logits(label):
    logits = EXTREMES.clone().requires_grad_()
    labels = torch.full_like(logits, label)
    expected = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
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


def published(logits, labels, negative, positive, clip):
    """The formula as it is printed, for tensors of float64."""
    p = torch.sigmoid(logits)
    shifted = (p - clip).clamp(min=0)
    return torch.where(
        labels == 1, -((1 - p) ** positive) * torch.log(p), -(shifted**negative) * torch.log(1 - shifted)
    )


@pytest.mark.parametrize(
    ("negative", "positive", "clip"),
    [(4, 0, 0.05), (4, 1, 0.05), (2, 2, 0.2), (1, 0, 0), (0.5, 0.5, 0), (0, 0, 0.05), (0.5, 2, 0.05)],
)
def test_asl_and_its_gradient_are_those_of_the_published_formula(negative, positive, clip):
    logits, labels = logits_and_labels()
    loss = asl(logits, labels, gamma_negative=negative, gamma_positive=positive, clip=clip)
    expected = published(logits, labels, negative, positive, clip)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-15)
    # At the margin itself a power below 1 has no slope, and the printed formula's is not a number below it.
    fine = (labels == 1) | (torch.sigmoid(logits) > clip + 1e-9)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    (reference,) = torch.autograd.grad(expected[fine].sum(), logits)
    torch.testing.assert_close(gradient[fine], reference[fine], rtol=1e-9, atol=1e-15)
    assert not gradient[~fine].any()


def test_asl_without_focus_and_clip_is_bce():
    logits, labels = logits_and_labels()
    torch.testing.assert_close(asl(logits, labels, gamma_negative=0, gamma_positive=0, clip=0), bce(logits, labels))


def test_asl_has_the_gradient_of_its_values():
    logits, labels = logits_and_labels()
    assert torch.autograd.gradcheck(lambda z: asl(z, labels, gamma_positive=1.0), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clip", [0.0, 1e-9, 0.05])
@pytest.mark.parametrize("positive", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("negative", [0.0, 0.5, 1.0, 4.0])
def test_asl_and_its_gradient_are_finite_however_sure_the_logit(negative, positive, clip, dtype):
    for label in (0.0, 1.0):
        logits = EXTREMES.clone().to(dtype).requires_grad_()
        values = asl(
            logits, torch.full_like(logits, label), gamma_negative=negative, gamma_positive=positive, clip=clip
        )
        values.sum().backward()
        assert values.isfinite().all()
        assert (values >= 0).all()
        assert logits.grad.isfinite().all()


def test_a_confident_mistake_still_pulls():
    logits = EXTREMES.clone().requires_grad_()
    bce(logits, torch.zeros(9)).sum().backward()
    assert logits.grad[-1] == 1
    logits = EXTREMES.clone().requires_grad_()
    asl(logits, torch.ones(9)).sum().backward()
    assert logits.grad[0] == -1


@pytest.mark.parametrize("loss", [bce, asl])
def test_labels_are_one_for_all_rows_of_logits(loss):
    logits = torch.linspace(-3, 3, 12).view(3, 4)
    labels = torch.tensor([1.0, 0.0, 0.0, 1.0])
    together = loss(logits, labels)
    torch.testing.assert_close(together, torch.stack([loss(row, labels) for row in logits]))


def test_every_gradient_method_has_its_loss_with_the_options_it_was_given():
    logits, labels = logits_and_labels()
    assert set(METHODS) - {"ga"} == {"bce", "asl"}
    assert loss_of("bce", Options())(logits, labels).equal(bce(logits, labels))
    assert loss_of("asl", Options())(logits, labels).equal(asl(logits, labels))
    options = Options(gamma_negative=1.0, gamma_positive=2.0, clip=0.1)
    expected = published(logits, labels, 1.0, 2.0, 0.1)
    torch.testing.assert_close(loss_of("asl", options)(logits, labels), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("method", ["bce", "asl"])
def test_what_validation_chooses_from_holds_the_steps_of_every_pull_with_the_right_mean_probability(method):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3)).astype(np.float32)
    labels = torch.from_numpy((features[:, 0] + rng.normal(size=200) > 0.7).astype(np.float32))
    problem = standardise(torch.from_numpy(features.copy()), labels, rng.normal(size=3), 0.0)
    genes = descend(method, problem, Options(pulls=(1.0, 0.01)))
    assert genes.dtype == np.float64
    assert genes.shape[1] == 4
    assert genes[:, :-1].any(axis=1).all()
    assert len(genes) >= 2 * 2
    weights, biases = problem.heads(genes)
    probabilities = 1 / (1 + np.exp(-(weights @ features.T + biases[:, None])))
    np.testing.assert_allclose(probabilities.mean(axis=1), labels.mean(), atol=1e-4)
    assert len(genes) > len(descend(method, problem, Options(pulls=(1.0,))))
    assert descend(method, problem, Options(pulls=[1, 2])).shape[1] == 4  # whole numbers will do


def test_where_there_is_nothing_to_do_there_is_no_step():
    labels = torch.arange(10).remainder(2).float()
    problem = standardise(torch.full((10, 3), 2.0), labels, np.zeros(3), 0.0)
    assert descend("bce", problem, Options()).shape == (0, 4)
