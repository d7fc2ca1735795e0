"""Heat maps of runs: what is handed out for each picture, by which head, and how heat is drawn over a picture."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_cft.artifacts import fingerprint, open_run, write_json
from cxr_cft.data.images import read_image
from cxr_cft.data.table import read_table
from cxr_cft.errors import DataError, RunError
from cxr_cft.evaluation.heatmaps import heat_map_reason, heat_maps, overlay
from cxr_cft.training.inference import predict_logits
from cxr_cft.training.model import load_model, save_tensors


@pytest.fixture
def table(run, data):
    return read_table(data / "test.csv", data, run.categories)


@pytest.fixture
def files(table):
    return [table.file(row) for row in range(11)]


@pytest.fixture
def changed(run, tmp_path):
    """A copy of the run whose recipe's section `model` is changed."""

    def changed(**model):
        folder = shutil.copytree(run.path, tmp_path / "other")
        recipe = run.info["recipe"]
        write_json(folder / "run.json", {**run.info, "recipe": {**recipe, "model": {**recipe["model"], **model}}})
        return open_run(folder)

    return changed


def tune(run):
    """Give a run's copy heads as CFT leaves them: other weights, and the report that vouches for them."""
    head = load_model(run).head
    save_tensors(run.heads_file, {"weight": -2 * head.weight, "bias": head.bias + 1})
    write_json(run.path / "cft.json", {"model": run.weights, "heads": fingerprint(run.heads_file)})


def test_there_is_one_for_each_file_in_order_and_one_map_for_each_category(run, table, files):
    names = ("Edema", "No Finding", "Cardiomegaly")
    found = list(heat_maps(run, files, names))
    logits = predict_logits(run, table)
    for row, each in enumerate(found):
        np.testing.assert_array_equal(each.image, read_image(files[row], 32))
        assert each.maps.shape == (3, 32, 32)
        assert each.maps.dtype == np.float32
        expected = [logits[row, run.categories.index(name)] for name in names]
        np.testing.assert_allclose(each.logits, expected, rtol=1e-4, atol=1e-6)
    assert len(found) == 11


def test_a_map_reaches_from_0_to_1_unless_nothing_speaks_for_its_category(run, files):
    silent = [run.categories.index(category) for category in run.info["unlearnt"]]
    assert silent
    for each in heat_maps(run, files, run.categories):
        assert each.maps.min() >= 0
        np.testing.assert_array_equal(each.maps.max(axis=(1, 2)), each.scale > 0)
        assert not each.scale[silent].any()
        assert each.scale.any()


def test_a_cells_heat_lies_over_the_cell_and_falls_evenly_to_the_middle_of_its_neighbours(run, files, monkeypatch):
    coarse = torch.zeros(1, 1, 4, 4)
    coarse[..., 1, 2] = 3.0
    monkeypatch.setattr("cxr_cft.evaluation.heatmaps.grad_cam", lambda *_: (torch.zeros(1, 1), coarse))
    ((heat,),) = (each.maps for each in heat_maps(run, files[:1], ["Edema"]))
    near = np.clip(1 - np.abs(np.arange(32) + 0.5 - np.array([[12], [20]])) / 8, 0, None)  # cells of 8 pixels
    expected = np.outer(*near)
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-6)


def test_tuned_heads_are_taken_where_there_are_any_unless_trained_ones_are_asked_for(changed, files):
    run = changed()
    names = ("Edema", "Cardiomegaly")
    (trained,) = heat_maps(run, files[:1], names)
    with pytest.raises(RunError, match=r"^run other has no tuned heads; run `cxr-cft cft other` first$"):
        heat_maps(run, files, names, tuned=True)
    tune(run)
    (tuned,) = heat_maps(run, files[:1], names)
    assert not np.allclose(tuned.logits, trained.logits)
    assert not np.allclose(tuned.maps, trained.maps)  # what spoke against now speaks for
    for chosen, same in ((True, tuned), (False, trained)):
        (each,) = heat_maps(run, files[:1], names, tuned=chosen)
        np.testing.assert_array_equal(each.maps, same.maps)
        np.testing.assert_array_equal(each.logits, same.logits)


def test_with_tta_logits_are_those_of_predict_and_heat_is_that_of_the_picture_as_it_is(run, changed, table, files):
    other = changed(tta=2)
    logits = predict_logits(other, table)
    assert not np.allclose(logits, predict_logits(run, table), atol=1e-4)
    pairs = zip(heat_maps(run, files, run.categories), heat_maps(other, files, run.categories), strict=True)
    for row, (plain, shifted) in enumerate(pairs):
        np.testing.assert_array_equal(plain.maps, shifted.maps)
        np.testing.assert_allclose(shifted.logits, logits[row], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_changes_for_whoever_asks_between_two_maps(run, files, mode):
    threads = torch.get_num_threads()
    with mode():
        was = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for _ in heat_maps(run, files[:2], ["Edema"]):
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == was
            assert torch.get_num_threads() == threads


def test_the_same_files_give_the_same_bytes(run, files):
    first, second = ([each.maps.tobytes() for each in heat_maps(run, files, ["Edema"])] for _ in range(2))
    assert first == second


def test_progress_counts_views(run, files, notes):
    list(heat_maps(run, files, ["Edema"], progress=notes))
    assert notes.tracked == [("heat maps of tiny", 11, "views")]


# ---- what cannot be


def test_a_category_that_the_run_does_not_predict_is_named_at_once(run, files):
    with pytest.raises(RunError, match=r"^run tiny does not predict 'edem' \(did you mean 'Edema'\?\); its categories"):
        heat_maps(run, files, ["edem"])


def test_an_image_that_cannot_be_read_is_named_when_its_turn_comes(run, files, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    found = heat_maps(run, [*files[:8], bad], ["Edema"])
    for _ in range(8):
        next(found)
    with pytest.raises(DataError, match=rf"^image {bad} cannot be read: .*cannot identify image file"):
        next(found)


def test_a_backbone_in_two_branches_has_a_reason(run, changed):
    # crossvit looks at a picture in patches of two sizes, which meet only after the last layer.
    sizes = {"img_scale": [1.0, 1.0], "embed_dim": [8, 16], "num_heads": [2, 2], "depth": [[1, 2, 0]]}
    other = changed(backbone="crossvit_tiny_240", image_size=48, args={"img_size": 48, **sizes})
    reason = heat_map_reason(other)
    assert reason is not None
    assert reason.startswith("run other's backbone crossvit_tiny_240 has no heat maps: no layer of it holds all of")
    assert heat_map_reason(run) is None


def test_a_run_without_heat_maps_is_refused_with_the_reason(run, files, monkeypatch):
    def find(*_):
        raise ValueError("it is too small")

    monkeypatch.setattr("cxr_cft.evaluation.heatmaps.find_layer", find)
    assert heat_map_reason(run) == "run tiny's backbone test_resnet has no heat maps: it is too small"
    with pytest.raises(RunError, match=r"^run tiny's backbone test_resnet has no heat maps: it is too small$"):
        heat_maps(run, files, ["Edema"])


# ---- drawing

PICTURES = arrays(np.uint8, (5, 7))
HEAT = arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


@given(PICTURES)
def test_without_heat_a_picture_stays_as_it_is(image):
    drawn = np.asarray(overlay(image, np.zeros((5, 7), np.float32)))
    np.testing.assert_array_equal(drawn, np.repeat(image[..., None], 3, axis=2))


@given(PICTURES, HEAT)
def test_what_is_drawn_at_a_place_depends_on_that_place_alone(image, heat):
    drawn = np.asarray(overlay(image, heat))
    for row, column in ((0, 0), (4, 6), (2, 3)):
        alone = overlay(image[row : row + 1, column : column + 1], heat[row : row + 1, column : column + 1])
        np.testing.assert_array_equal(drawn[row, column], np.asarray(alone)[0, 0])


@pytest.mark.parametrize("grey", [0, 60, 128])
def test_the_hotter_the_lighter_over_black_and_the_more_colour_over_any_grey(grey):
    ramp = np.linspace(0, 1, 101, dtype=np.float32)[None]
    drawn = np.asarray(overlay(np.full((1, 101), grey, np.uint8), ramp)).astype(float)[0]
    distance = np.abs(drawn - grey).sum(axis=1)
    assert (np.diff(distance[::10]) > 0).all()
    if grey == 0:
        assert (np.diff(drawn @ (0.2126, 0.7152, 0.0722)) >= -0.5).all()  # to the rounding of a colour


def test_two_places_of_different_grey_can_be_told_apart_where_it_is_hottest():
    drawn = np.asarray(overlay(np.array([[0, 255]], np.uint8), np.ones((1, 2), np.float32))).astype(int)
    assert np.abs(drawn[0, 1] - drawn[0, 0]).min() > 50


def test_files_may_be_any_sequence_of_paths(run, files):
    assert list(heat_maps(run, (), ["Edema"])) == []
    assert len(list(heat_maps(run, tuple(map(Path, files[:1])), ["Edema"]))) == 1
