"""A bundle's models run where there is a device for them, and go on where one fails."""

import json
import shutil

import numpy as np
import onnxruntime
import pytest

from cxr_cft.data.images import preprocessing
from cxr_cft.submission import runtime
from cxr_cft.submission.runtime import CPU, CUDA, Model, load_models, on_cuda
from cxr_cft.submission.telling import Failure

AVAILABLE = ["TensorrtExecutionProvider", CUDA, CPU]
SIZE = 8


@pytest.mark.parametrize(
    ("device", "available", "gpu", "visible", "expected"),
    [
        ("auto", AVAILABLE, True, None, True),
        ("cuda", AVAILABLE, True, None, True),
        ("auto", AVAILABLE, True, "0", True),
        ("cpu", AVAILABLE, True, None, False),
        ("auto", AVAILABLE, False, None, False),
        ("cuda", AVAILABLE, False, None, False),
        ("auto", [CPU], True, None, False),
        ("auto", AVAILABLE, True, "", False),
        ("auto", AVAILABLE, True, "-1", False),
    ],
)
def test_cuda_is_taken_only_where_a_device_really_is(tmp_path, monkeypatch, device, available, gpu, visible, expected):
    file = tmp_path / "gpu"
    if gpu:
        file.touch()
    monkeypatch.setattr(runtime, "GPU_FILES", (str(tmp_path / "other"), str(file)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert on_cuda(device, available) is expected


class Session:
    """ONNX Runtime's session on a made machine: an image's logit is its mean; it fails as `faults` say."""

    def __init__(self, _, options, providers):
        self.provider = providers[0] if isinstance(providers[0], str) else providers[0][0]
        self.opened.append((self.provider, options.intra_op_num_threads))
        fault = self.faults.get(("open", self.provider))
        if fault == "silently":
            self.provider = CPU
        elif fault:
            raise RuntimeError(fault)

    def get_providers(self):
        return [self.provider]

    def get_modelmeta(self):
        told = {"preprocessing": preprocessing(SIZE), "heads": ["trained"], "categories": ["Edema"]}
        meta = type("Meta", (), {})()
        meta.custom_metadata_map = {key: json.dumps(value) for key, value in told.items()}
        return meta

    def run(self, _, feed):
        images = feed["images"]
        fault = self.faults.get(("run", self.provider))
        if fault is not None and fault(images):
            raise RuntimeError("out of\nmemory")
        return [images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]]


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """A function that loads a model on a made machine with a GPU, of which something fails."""

    def faulty(faults, device="auto", gpu=True, threads=3):
        monkeypatch.setattr(Session, "faults", faults, raising=False)
        monkeypatch.setattr(Session, "opened", [], raising=False)
        monkeypatch.setattr(runtime, "on_cuda", lambda device, available: gpu and device != "cpu")  # noqa: ARG005
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        return Model(tmp_path / "m.onnx", device, threads)

    return faulty


IMAGES = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, SIZE, SIZE), np.uint8)


@pytest.mark.parametrize(
    "faults",
    [
        {("open", CUDA): "no cuDNN"},
        {("open", CUDA): "silently"},
        {("run", CUDA): lambda images: True},  # noqa: ARG005
        {("run", CUDA): lambda images: images.any()},
    ],
    ids=["opening", "opening, silently", "its first run", "a later run"],
)
def test_where_cuda_fails_the_cpu_takes_over_and_it_is_told(faulty, capsys, faults):
    model = faulty(faults)
    np.testing.assert_array_equal(model.logits(IMAGES)[:, 0], np.arange(6))
    assert model.provider == "CPU"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("WARNING: ")
    assert "m.onnx" in told[0]
    assert told[0].endswith("on the CPU")
    assert {threads for _, threads in Session.opened} == {3}


def test_a_gpu_that_works_is_used_and_nothing_is_said(faulty, capsys):
    model = faulty({("run", CPU): lambda images: True})  # noqa: ARG005
    np.testing.assert_array_equal(model.logits(IMAGES)[:, 0], np.arange(6))
    assert (model.provider, capsys.readouterr().err) == ("CUDA", "")


def test_asking_for_cuda_without_a_device_is_told(faulty, capsys):
    assert faulty({}, device="cuda", gpu=False).provider == "CPU"
    assert "WARNING: no CUDA device is here; m.onnx runs on the CPU" in capsys.readouterr().err
    faulty({}, device="auto", gpu=False)
    assert capsys.readouterr().err == ""


def test_a_batch_that_is_too_large_is_run_by_halves(faulty, capsys):
    model = faulty({("run", CPU): lambda images: len(images) > 2}, gpu=False)
    np.testing.assert_array_equal(model.logits(IMAGES)[:, 0], np.arange(6))
    assert capsys.readouterr().err == ""


def test_an_image_that_a_model_fails_on_or_has_no_number_for_costs_no_other(faulty, capsys, monkeypatch):
    model = faulty({("run", CPU): lambda images: (images == 4).any()}, gpu=False)
    found = model.logits(IMAGES)[:, 0]
    np.testing.assert_array_equal(found, [0, 1, 2, 3, np.nan, 5])
    assert capsys.readouterr().err == "m.onnx failed on an image: out of memory\n"
    monkeypatch.setattr(Session, "run", lambda *_: [np.array([[1.0], [np.inf], [np.nan], [-np.inf]])])
    np.testing.assert_array_equal(model.logits(IMAGES[:4])[:, 0], [1, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({("open", CPU): "no such\noperator"}, "m.onnx cannot be loaded: no such operator"),
        ({("run", CPU): lambda images: True}, "m.onnx cannot be run: out of memory"),  # noqa: ARG005
    ],
)
def test_a_model_that_does_not_run_at_all_ends_it_before_any_image_is_read(faulty, faults, message):
    with pytest.raises(Failure, match=message):
        faulty(faults, gpu=False)


def test_a_file_that_is_no_model_is_named(bundle, tmp_path):
    members = json.loads((bundle.folder / "submission.json").read_text())["members"]
    copy = shutil.copytree(bundle.folder, tmp_path / "bundle")
    (copy / members[0]["model"]).write_bytes(b"no model")
    with pytest.raises(Failure, match=r"models/\w+.onnx cannot be loaded: .*"):
        load_models(copy, members)


def test_one_model_serves_all_its_members_with_the_given_threads(bundle, monkeypatch):
    given = []
    session = onnxruntime.InferenceSession

    def opened(path, options, providers):
        given.append((options.intra_op_num_threads, options.inter_op_num_threads, providers))
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    members = json.loads((bundle.folder / "submission.json").read_text())["members"]
    models = load_models(bundle.folder, members, "cpu", 2)
    assert set(models) == {"models/trained.onnx", "models/tuned.onnx"}
    assert len(members) == 3
    assert given == [(2, 1, [CPU])] * 2
