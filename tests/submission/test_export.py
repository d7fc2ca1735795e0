"""An exported run repeats torch's numbers at any batch, in one file; one that does not is not exported."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cxr_cft.artifacts import Run, open_run
from cxr_cft.errors import SubmissionError
from cxr_cft.submission import export
from cxr_cft.submission.export import export_onnx
from cxr_cft.training.model import load_model


@pytest.fixture(scope="module")
def exported(weights, images):
    run = open_run(weights / "tuned")
    path, worst = export_onnx(run, images, heads=["tuned"])
    return run, path, worst


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_logits_are_torchs_at_any_batch_normalisation_and_tuned_head_included(exported, images, batch):
    run, path, _ = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = images[:batch, None]
    with torch.inference_mode():
        expected = load_model(run, tuned=True)(torch.from_numpy(pixels)).numpy()
        trained = load_model(run)(torch.from_numpy(pixels)).numpy()
    (found,) = session.run(["logits"], {"images": pixels})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(found - trained).max() > 1e-2


@pytest.mark.parametrize("member", ["tuned", "trained"])
def test_test_time_augmentation_is_part_of_the_graph(weights, images, tmp_path, member):
    plain = open_run(shutil.copytree(weights / member, tmp_path / member))
    side = plain.info["recipe"]["model"]["image_size"]
    pixels = np.pad(images, ((0, 0), (0, side - 32), (0, side - 32)), mode="reflect")
    recipe = {**plain.info["recipe"], "model": {**plain.info["recipe"]["model"], "tta": 2}}
    run = Run(plain.path, {**plain.info, "recipe": recipe})
    path, _ = export_onnx(run, pixels, heads=["trained"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3, 7):
        part = pixels[:batch, None]
        with torch.inference_mode():
            expected, without = (load_model(each)(torch.from_numpy(part)).numpy() for each in (run, plain))
        (found,) = session.run(["logits"], {"images": part})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert np.abs(found - without).max() > 1e-3


def test_the_graph_stands_alone_in_one_file_and_says_its_opset(exported):
    _, path, worst = exported
    graph = onnx.load(path, load_external_data=False)
    assert all(not tensor.external_data for tensor in graph.graph.initializer)
    assert [path.name for path in path.parent.glob("model.onnx*")] == ["model.onnx"]
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == export.OPSET
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert 0 <= worst <= export.TOLERANCE


def test_both_heads_lie_side_by_side_and_the_file_says_what_its_columns_are(exported, images, tmp_path):
    run = Run(shutil.copytree(exported[0].path, tmp_path / "tuned"), exported[0].info)
    path, worst = export_onnx(run, images, heads=["trained", "tuned"])
    assert 0 <= worst <= export.TOLERANCE
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["heads"]) == ["trained", "tuned"]
    assert json.loads(told["categories"]) == list(run.categories)
    assert json.loads(told["preprocessing"]) == run.info["preprocessing"]
    (found,) = session.run(["logits"], {"images": images[:, None]})
    with torch.inference_mode():
        expected = [load_model(run, tuned=tuned)(torch.from_numpy(images[:, None])).numpy() for tuned in (False, True)]
    np.testing.assert_allclose(found, np.hstack(expected), rtol=0, atol=1e-4)


def test_a_head_is_not_let_off_for_the_rounding_of_the_other(exported, images, monkeypatch, tmp_path):
    run = Run(shutil.copytree(exported[0].path, tmp_path / "tuned"), exported[0].info)
    write = export._write

    def other_first_head(model, *arguments):
        with torch.no_grad():
            model.head.bias[0] += 0.01
        write(model, *arguments)

    def large_tuned_head(run, *, tuned):
        model = load_model(run, tuned=tuned)
        with torch.no_grad():
            model.head.weight *= 1e6 if tuned else 1.0
        return model

    monkeypatch.setattr(export, "load_model", large_tuned_head)
    export_onnx(run, images, heads=["trained", "tuned"])  # the large head's own rounding is no fault
    monkeypatch.setattr(export, "_write", other_first_head)
    with pytest.raises(SubmissionError, match=r"run tuned: ONNX and torch differ by .* for the trained head"):
        export_onnx(run, images, heads=["trained", "tuned"])


def test_a_graph_that_differs_from_torch_is_refused_and_the_earlier_file_stays(exported, images, monkeypatch):
    run, path, _ = exported
    before = path.read_bytes()
    write = export._write

    def other_head(model, *arguments):
        with torch.no_grad():
            model.head.bias.add_(0.01)
            write(model, *arguments)
            model.head.bias.sub_(0.01)

    monkeypatch.setattr(export, "_write", other_head)
    with pytest.raises(SubmissionError, match=r"run tuned: ONNX and torch differ by .* batch of 1 .*was not packaged"):
        export_onnx(run, images, heads=["tuned"])
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*partial"))
