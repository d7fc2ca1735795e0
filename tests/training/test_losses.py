"""The masked loss is torch's own over what counts, and what does not count leaves no trace."""

import pytest
import torch
from torch.nn import functional

from cxr_cft.training.losses import masked_bce


def test_is_the_mean_of_torchs_own_over_the_entries_that_count():
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.1]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    counted = mask.bool()
    expected = functional.binary_cross_entropy_with_logits(logits[counted], targets[counted])
    assert masked_bce(logits, targets, mask).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("size", [20.0, 200.0])
def test_gradients_are_finite_at_large_logits_and_zero_where_masked(size):
    logits = torch.tensor([[size, -size, size, -size]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    masked_bce(logits, targets, mask).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, :2].abs().min() > 0.4
    assert (logits.grad[0, 2:] == 0).all()


@pytest.mark.parametrize("size", [1e30, float("inf")])
def test_what_is_masked_does_not_change_the_loss(size):
    targets, mask = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    small = masked_bce(torch.tensor([[0.5, 0.0]]), targets, mask)
    large = masked_bce(torch.tensor([[0.5, size]]), targets, mask)
    assert small == large


def test_nothing_that_counts_costs_nothing():
    assert masked_bce(torch.ones(2, 2), torch.ones(2, 2), torch.zeros(2, 2)) == 0


def test_parts_of_a_batch_add_up_to_its_mean():
    generator = torch.Generator().manual_seed(0)
    logits, targets, mask = (torch.rand(7, 3, generator=generator) for _ in range(3))
    mask = (mask > 0.4).float()
    cuts = (slice(0, 1), slice(1, 5), slice(5, 7))
    parts = [masked_bce(logits[cut], targets[cut], mask[cut], mask.sum()) for cut in cuts]
    torch.testing.assert_close(sum(parts), masked_bce(logits, targets, mask))


def test_16_bit_logits_are_summed_in_32_bits():
    logits = torch.full((64, 64), 3.0, dtype=torch.bfloat16)
    ones = torch.ones(64, 64)
    expected = functional.binary_cross_entropy_with_logits(logits.float(), ones)
    torch.testing.assert_close(masked_bce(logits, ones, ones), expected)
