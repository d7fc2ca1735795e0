"""From a run to one ONNX file, backbone and tuned head in one graph, accepted only if it repeats torch's numbers."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from scipy.special import expit

from cxr_cft.artifacts import Run, replacing
from cxr_cft.errors import SubmissionError
from cxr_cft.submission.predict import processors
from cxr_cft.training.model import Classifier, load_model

OPSET = 18  # the one that torch's exporter writes without converting; onnxruntime 1.19 reads the file (tried)
TOLERANCE = 1e-5  # largest difference of a probability (assumed)
ROUNDING = 8.0
"""Where a probability differs by more than `TOLERANCE`, ONNX's logits may still be this many times (assumed) as far
from float64's as torch's own float32 logits are. Heads with large weights on features that hardly vary show the
rounding of the features in either library: a network of two short epochs differed by 2e-4 of a probability, where torch
itself was 1e-3 of a logit from float64 (measured)."""
BATCHES = (1, 2, 7)  # one image, the smallest batch, and one that is no power of two


def export_onnx(run: Run, images: NDArray[np.uint8], *, tuned: bool) -> tuple[Path, float]:
    """Write RUN/model.onnx: images (batch, 1, S, S) uint8 → logits (batch, C) float32, any batch, weights inside.

    `images` (n, S, S) uint8 are real ones, n ≥ 7, for the comparison with torch; noise is compared as well. Returns
    the file and the largest difference of a probability. Raises SubmissionError, leaving an earlier file as it was, if
    the numbers differ (see `ROUNDING`).
    """
    model = load_model(run, tuned=tuned)
    path = run.path / "model.onnx"
    with replacing(path) as beside:
        metadata = {
            "categories": json.dumps(run.categories),
            "preprocessing": json.dumps(run.info["preprocessing"]),
            "heads": "tuned" if tuned else "trained",
        }
        _write(model, images, beside, metadata)
        worst = _compare(run.name, model, beside, images)
    return path, worst


def _write(model: Classifier, images: NDArray[np.uint8], path: Path, metadata: dict[str, str]) -> None:
    # Two images: an example of one would let the exporter take the batch for a constant.
    example = torch.from_numpy(images[:2, None].copy())
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None  # noqa: S101 - for the type checker: with dynamo the exporter returns a program
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)
    onnx.checker.check_model(path, full_check=True)


def _compare(name: str, model: Classifier, path: Path, images: NDArray[np.uint8]) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).integers(0, 256, images[: max(BATCHES)].shape, dtype=np.uint8)
    worst = 0.0
    exact = copy.deepcopy(model).double()
    for source, pixels in (("images of the validation set", images), ("noise", noise)):
        for batch in BATCHES:
            part = pixels[:batch, None].copy()
            with torch.inference_mode():
                torch_logits = model(torch.from_numpy(part)).double().numpy()
                exact_logits = exact(torch.from_numpy(part)).numpy()
            found = np.asarray(session.run(["logits"], {"images": part})[0], dtype=np.float64)
            off = np.abs(expit(found) - expit(torch_logits))
            worst = max(worst, float(off.max()))
            rounding = ROUNDING * np.abs(torch_logits - exact_logits).max()
            if not ((off <= TOLERANCE) | (np.abs(found - exact_logits) <= rounding)).all():
                raise SubmissionError(
                    f"run {name}: ONNX and torch differ by {off.max():.1e} on {source} at a batch of {batch} "
                    f"(at most {TOLERANCE:.0e}), so that it was not packaged; leave the run out of the ensemble"
                )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells at length of its own workings; what matters is checked afterwards."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
