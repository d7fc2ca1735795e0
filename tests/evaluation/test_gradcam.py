"""Grad-CAM agrees with what can be derived by hand, for networks of every kind, and leaves a model as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from cxr_cft.evaluation.gradcam import Layer, find_layer, grad_cam
from cxr_cft.settings import ModelSettings
from cxr_cft.training.model import Classifier

SIDE = 96
ARGUMENTS = {
    "test_coatnet": {"img_size": SIDE},
    "test_maxvit": {"img_size": SIDE},
    "test_vit3": {"img_size": SIDE},
    "test_vit4": {"dynamic_img_size": True},
    "vit_tiny_patch16_224": {"img_size": SIDE, "depth": 3, "embed_dim": 48, "reg_tokens": 4, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {
        "img_size": SIDE,
        "window_size": 3,
        "embed_dim": 24,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 3, 4],
    },
    "densenet121": {"growth_rate": 8, "block_config": [1, 1, 2, 1]},
}


def classifier(backbone, categories=3, seed=0, **settings):
    """A fresh classifier in evaluation mode, its batch norms not at their start."""
    torch.manual_seed(seed)
    settings = {"args": ARGUMENTS.get(backbone, {}), **settings}
    model = Classifier(ModelSettings(backbone=backbone, image_size=SIDE, **settings), categories)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def pictures(number=2, side=SIDE, seed=0):
    return torch.randint(
        0, 256, (number, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def normalised(model, images):
    return (images / 255.0 - model.mean) / model.std


# ---- against what is known


def test_with_mean_pooling_heat_is_the_class_activation_map():
    """Zhou et al. 2016: the head's weights times the last channels; the paper shows that Grad-CAM is that map."""
    model = classifier("test_resnet", args={"output_stride": 8})
    layer = find_layer(model, SIDE)
    assert (layer.name, layer.rows) == ("layer4", 12)
    with torch.no_grad():
        channels = model.backbone.forward_features(normalised(model, pictures()))
        expected = torch.einsum("cd,ndhw->nchw", model.head.weight, channels) / layer.rows**2
    logits, heat = grad_cam(model, pictures(), layer, range(3))
    torch.testing.assert_close(heat, expected.clamp(min=0), rtol=1e-4, atol=1e-7)
    # …whose sum over the cells, negative ones too, is the logit without the bias.
    torch.testing.assert_close(expected.sum(dim=(2, 3)) + model.head.bias, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "backbone", ["test_resnet", "test_efficientnet", "test_nfnet", "test_convnext", "test_byobnet"]
)
def test_heat_of_an_earlier_layer_is_that_of_the_rest_of_the_network_differentiated_directly(backbone):
    """The rest is run by itself from a stage's output, which timm's own forward_intermediates hands out."""
    model = classifier(backbone)
    stages = [info["module"] for info in model.backbone.feature_info]
    module = stages[-2]
    with torch.no_grad():
        given = model.backbone.forward_intermediates(normalised(model, pictures()), indices=[len(stages) - 2])[1][0]
    hooked = model.backbone.get_submodule(module).register_forward_hook(lambda *_: given)
    given = given.requires_grad_()
    logits = model(pictures())
    hooked.remove()
    gradients = [torch.autograd.grad(logits[:, c].sum(), given, retain_graph=True)[0] for c in range(3)]
    expected = torch.stack([(g.mean((2, 3), keepdim=True) * given).sum(1).clamp(min=0) for g in gradients], 1).detach()
    found = grad_cam(model, pictures(), Layer(module, "first", *given.shape[2:]), range(3))
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found[0], logits.detach(), rtol=1e-5, atol=1e-6)
    assert expected.any()


# ---- any backbone


KINDS = {
    "test_resnet": ("layer3", "first", 0),
    "test_byobnet": ("stages.2", "first", 0),
    "test_mambaout": ("stages.3.downsample.norm", "last", 0),
    "test_vit": ("blocks.4", "tokens", 1),  # answers by its class token
    "test_vit2": ("norm", "tokens", 1),  # by the mean of the others
    "test_vit3": ("norm", "tokens", 1),  # by attention to them
}


@pytest.mark.parametrize("backbone", KINDS)
def test_the_layer_is_the_deepest_with_cells_enough_that_is_read(backbone):
    layer = find_layer(classifier(backbone), SIDE)
    assert (layer.name, layer.layout, layer.prefix) == KINDS[backbone]
    assert (layer.rows, layer.columns) == (6, 6)


OTHERS = (
    *("test_coatnet", "test_convnext", "test_efficientnet", "test_maxvit", "test_nfnet", "test_vit4"),
    *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "densenet121"),
)


@pytest.mark.parametrize("backbone", [*KINDS, *OTHERS])
def test_heat_differs_by_place_picture_and_category_and_not_by_what_stands_beside_in_the_batch(backbone):
    model = classifier(backbone, categories=8)
    layer = find_layer(model, SIDE)
    logits, heat = grad_cam(model, pictures(3), layer, [5, 0, 2, 7])
    assert heat.shape == (3, 4, layer.rows, layer.columns)
    assert (heat >= 0).all()
    assert heat.any()
    assert heat.flatten(2).std(dim=2).max() > 0
    torch.testing.assert_close(logits, model(pictures(3))[:, [5, 0, 2, 7]].detach(), rtol=1e-5, atol=1e-6)
    alone = grad_cam(model, pictures(3)[1:2], layer, [2])[1]
    torch.testing.assert_close(alone[0, 0], heat[1, 2], rtol=1e-3, atol=1e-3 * heat.max().item())
    assert not torch.equal(heat[0], heat[1])


@pytest.mark.parametrize("layout", ["first", "last", "tokens"])
def test_however_a_tensor_lies_its_cells_keep_their_places(layout):
    places = torch.arange(12.0).reshape(1, 1, 3, 4) + torch.tensor([0.0, 100.0])[None, :, None, None]
    lies = {
        "first": places,
        "last": places.permute(0, 2, 3, 1),
        "tokens": torch.cat([torch.full((1, 2, 2), -1.0), places.flatten(2).mT], dim=1),
    }
    torch.testing.assert_close(Layer("", layout, 3, 4, 2).spatial(lies[layout]), places)


class TwoEyes(nn.Module):
    """Looks at a picture by two convolutions that only meet in the features."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(1, 2, 8, 8), nn.Conv2d(1, 2, 8, 8)

    def forward_features(self, x):
        return self.one(x).relu(), self.other(x).relu()

    def forward_head(self, x):
        return torch.cat([part.mean(dim=(2, 3)) for part in x], dim=1)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_a_branch_is_not_taken_for_the_whole():
    model = classifier("test_resnet")
    model.backbone = TwoEyes()
    with pytest.raises(ValueError, match=r"^no layer of it holds all of a 96 px image in 5 × 5 cells or more$"):
        find_layer(model, SIDE)


class WrittenOver(TwoEyes):
    """Adds the picture's second account to the first, in place: the first module's output is not all there is."""

    def __init__(self):
        super().__init__()
        self.end = nn.ReLU(inplace=True)

    def forward_features(self, x):
        first = self.one(x)
        first += self.other(x)
        return self.end(first)

    def forward_head(self, x):
        return x.mean(dim=(2, 3))


def test_a_tensor_that_is_written_over_is_taken_for_what_it_was():
    model = classifier("test_resnet")
    model.backbone, model.head = WrittenOver(), nn.Linear(2, 3)
    layer = find_layer(model, SIDE)
    assert layer.name == "end"
    expected = torch.einsum(
        "cd,ndhw->nchw", model.head.weight, model.backbone.forward_features(normalised(model, pictures()))
    )
    torch.testing.assert_close(grad_cam(model, pictures(), layer, range(3))[1] * 144, expected.clamp(min=0).detach())


# ---- behaviour


def marked(number, seed):
    """Pictures (N, 1, 64, 64) of noise, each with one of three marks; which (N, 3), and in which quarter it is (N,)."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(110, 10, (number, 64, 64))
    stripes = 60.0 * (np.arange(16) % 4 < 2) - 30
    marks = (np.full((16, 16), 50.0), np.tile(stripes, (16, 1)), np.tile(stripes[:, None], (1, 16)))
    kinds, quarters = rng.integers(3, size=number), rng.integers(4, size=number)
    for n in range(number):
        top, left = 8 + 32 * (quarters[n] // 2), 8 + 32 * (quarters[n] % 2)
        grey[n, top : top + 16, left : left + 16] += marks[kinds[n]]
    pixels = torch.from_numpy(grey.clip(0, 255).astype(np.uint8))[:, None]
    return pixels, nn.functional.one_hot(torch.from_numpy(kinds), 3).float(), quarters


def test_a_trained_network_is_hot_where_its_findings_are():
    torch.manual_seed(0)
    model = Classifier(ModelSettings(backbone="test_efficientnet", image_size=64), 3).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(50):
        images, labels, _ = marked(16, seed=step)
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(images), labels).backward()
        optimiser.step()
    images, labels, quarters = marked(48, seed=1000)
    layer = find_layer(model.eval(), 64)
    logits, heat = grad_cam(model, images, layer, range(3))
    assert ((logits > 0) == (labels > 0)).float().mean() > 0.95
    of_label = heat[torch.arange(48), labels.argmax(dim=1)]
    by_quarter = of_label.unflatten(2, (2, -1)).unflatten(1, (2, -1)).sum(dim=(2, 4)).flatten(1)
    share = by_quarter[torch.arange(48), quarters] / by_quarter.sum(dim=1)
    assert share.mean() > 0.7  # of the heat, in a fourth of the picture


class Repeated(nn.Module):
    """How bright each of 12 × 12 cells is, three times."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Conv2d(1, 3, 8, 8)
        self.cells.weight.data.fill_(1 / 64)

    def forward_features(self, x):
        return self.cells(x)

    def forward_head(self, x):
        return x.mean(dim=(2, 3))

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_a_category_that_nothing_speaks_for_has_no_heat_at_all():
    model = classifier("test_vit")
    with torch.no_grad():
        model.head.weight[1] = 0
    heat = grad_cam(model, pictures(), find_layer(model, SIDE), range(3))[1]
    assert not heat[:, 1].any()
    assert heat[:, [0, 2]].any()


def test_rounding_is_not_heat():
    model = classifier("test_resnet")
    model.backbone, model.head = Repeated(), nn.Linear(3, 2)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[0.1, 0.2, -0.3], [0.1, 0.2, -0.299]]))  # the first adds up to nothing
        model.backbone.cells.bias.zero_()
    heat = grad_cam(model, pictures(), find_layer(model, SIDE), range(2))[1]
    assert not heat[:, 0].any()
    assert heat[:, 1].any()


def test_the_shifts_of_tta_do_not_move_the_heat():
    plain, shifted = classifier("test_resnet"), classifier("test_resnet", tta=4)
    layer = find_layer(shifted, SIDE)
    for one, other in zip(
        grad_cam(plain, pictures(), layer, [1]), grad_cam(shifted, pictures(), layer, [1]), strict=True
    ):
        assert torch.equal(one, other)
    assert shifted.tta == 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_is_left_behind_in_the_model_or_in_torch(mode):
    model = classifier("test_efficientnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, generator = [module.training for module in model.modules()], torch.random.get_rng_state()
    with mode():
        was = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        layer = find_layer(model, SIDE)
        logits, heat = grad_cam(model, pictures(), layer, range(3))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == was
    assert not heat.requires_grad
    assert not logits.requires_grad
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert [module.training for module in model.modules()] == state
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_same_pictures_give_the_same_bytes():
    first, second = (
        grad_cam(model, pictures(), find_layer(model, SIDE), range(3))[1].numpy()
        for model in (classifier("test_vit"), classifier("test_vit"))
    )
    np.testing.assert_array_equal(first, second)
