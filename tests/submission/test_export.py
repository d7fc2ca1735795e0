"""An exported run repeats torch's numbers at any batch, in one file; one that does not is not exported."""

import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cxr_cft.errors import SubmissionError
from cxr_cft.submission import export
from cxr_cft.submission.export import export_onnx
from cxr_cft.training.model import load_model


@pytest.fixture(scope="module")
def exported(weights, images):
    from cxr_cft.artifacts import open_run

    run = open_run(weights / "tuned")
    path, worst = export_onnx(run, images, tuned=True)
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
    from cxr_cft.artifacts import Run, open_run

    plain = open_run(shutil.copytree(weights / member, tmp_path / member))
    side = plain.info["recipe"]["model"]["image_size"]
    pixels = np.pad(images, ((0, 0), (0, side - 32), (0, side - 32)), mode="reflect")
    recipe = {**plain.info["recipe"], "model": {**plain.info["recipe"]["model"], "tta": 2}}
    run = Run(plain.path, {**plain.info, "recipe": recipe})
    path, _ = export_onnx(run, pixels, tuned=False)
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
        export_onnx(run, images, tuned=True)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*partial"))
