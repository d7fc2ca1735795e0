"""Every parameter learns at the rate and with the decay that its place asks for; rates rise to a peak and fall."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from cxr_cft.settings import ModelSettings, TrainingSettings
from cxr_cft.training.model import Classifier
from cxr_cft.training.optimiser import build_optimiser, learning_rate, rate_share, set_learning_rate

BLOCKS = {  # each backbone's parts, from the image to the head
    "test_convnext": ["stem", *(f"stages.{stage}" for stage in range(4))],
    "test_resnet": ["conv1", *(f"layer{layer}" for layer in range(1, 5))],
    "densenet121": ["features.conv0", *(f"features.denseblock{block}" for block in range(1, 5))],
}


@pytest.fixture(scope="module", params=BLOCKS)
def model(request) -> Classifier:
    return Classifier(ModelSettings(backbone=request.param, image_size=32), 3)


def having(**values):
    return TrainingSettings(weight_decay=0.03, **values)


def named_groups(model, optimiser):
    """Parameter name → its group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group for group in optimiser.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_each_parameter_is_learnt_once_and_biases_and_norms_do_not_decay(model, optimizer, layer_decay):
    optimiser = build_optimiser(model, having(optimizer=optimizer, layer_decay=layer_decay))
    learnt = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    assert sorted(learnt) == sorted(id(parameter) for parameter in model.parameters())
    spared = {id(p) for module in model.modules() if "Norm" in type(module).__name__ for p in module.parameters(False)}
    for name, group in named_groups(model, optimiser).items():  # gamma: what ConvNeXt scales a block's channels by
        free = name.endswith((".bias", ".gamma")) or id(model.get_parameter(name)) in spared
        assert group["weight_decay"] == (0.0 if free else 0.03), name


def test_with_layer_decay_a_layer_learns_the_slower_the_nearer_it_is_to_the_image(model):
    optimiser = build_optimiser(model, having(layer_decay=0.7))
    set_learning_rate(optimiser, 0.5)
    rates = {name: group["lr"] for name, group in named_groups(model, optimiser).items()}
    assert rates["head.weight"] == rates["head.bias"] == 0.5
    blocks = BLOCKS[model.backbone.pretrained_cfg["architecture"]]
    ends = [[rate for name, rate in rates.items() if name.startswith(f"backbone.{block}.")] for block in blocks]
    assert all(ends)
    for below, above in zip(ends, [*ends[1:], [0.5]], strict=True):
        assert max(below) <= min(above)
    assert max(ends[0]) < min(ends[-1])
    # Neighbouring layers differ by the factor, and nothing lies between.
    found = sorted(set(rates.values()), reverse=True)
    assert [lower / upper for upper, lower in pairwise(found)] == pytest.approx([0.7] * (len(found) - 1))


def test_without_layer_decay_all_layers_learn_at_the_same_rate(model):
    optimiser = build_optimiser(model, having())
    set_learning_rate(optimiser, 0.5)
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}


def test_sgd_steps_with_nesterovs_momentum():
    model = Classifier(ModelSettings(backbone="test_convnext", image_size=32), 3)
    optimiser = build_optimiser(model, TrainingSettings(optimizer="sgd", lr=0.1, weight_decay=0.0))
    weight = model.head.weight
    expected, velocity = weight.detach().clone(), 0.0
    for gradient in (1.0, 2.0, -1.0):
        weight.grad = torch.full_like(weight, gradient)
        optimiser.step()
        velocity = 0.9 * velocity + gradient
        expected -= 0.1 * (gradient + 0.9 * velocity)
        torch.testing.assert_close(weight.detach(), expected)


def test_adamw_moves_by_the_rate_and_decays_apart_from_the_gradient():
    model = Classifier(ModelSettings(backbone="test_convnext", image_size=32), 3)
    optimiser = build_optimiser(model, TrainingSettings(lr=0.1, weight_decay=0.5))
    weight = model.head.weight
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 7.0)
    optimiser.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.5) - 0.1)


# ---- the learning rate at every step

STEPS = {"steps": st.integers(1, 80), "warmup": st.floats(0, 0.99)}


@settings(deadline=None)
@given(schedule=st.sampled_from(["one_cycle", "cosine"]), **STEPS)
def test_the_learning_rate_rises_to_its_peak_and_falls_for_any_number_of_steps(schedule, steps, warmup):
    rates = [rate_share(schedule, step, steps, warmup) for step in range(steps + 1)]
    peak = rates.index(max(rates))
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert max(rates) == 1
    assert all(rate > 0 for rate in rates[:-1])
    assert peak == max(1, round(warmup * steps))
    assert rates[-1] == (0 if peak < steps else 1)


@settings(deadline=None)
@given(**STEPS)
def test_one_cycle_is_torchs(steps, warmup):
    # Torch reaches its peak and its end a step earlier: with a step more it falls as long as ours.
    rising = max(1, round(warmup * steps))
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = OneCycleLR(
        optimiser, 1.0, total_steps=steps + 1, pct_start=(rising + 1) / (steps + 1), final_div_factor=1e12
    )
    for step in range(steps):
        assert rate_share("one_cycle", step, steps, warmup) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        theirs.step()


def test_cosine_rises_along_a_line_and_falls_along_a_cosine():
    rates = [rate_share("cosine", step, 8, 0.5) for step in range(9)]
    falling = [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *falling])


def test_the_rate_is_the_recipes_peak_times_the_share():
    recipe = TrainingSettings(lr=0.3, schedule="cosine", warmup=0.25)
    assert [learning_rate(recipe, step, 4) for step in range(4)] == pytest.approx([0.15, 0.3, 0.225, 0.075])
