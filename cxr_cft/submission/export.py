"""From a run to one ONNX file, backbone and heads in one graph, accepted only if it repeats torch's numbers."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from cxr_cft.artifacts import Run, replacing
from cxr_cft.errors import SubmissionError
from cxr_cft.submission.runtime import processors
from cxr_cft.training.model import Classifier, load_model

OPSET = 18  # the one that torch's exporter writes without converting; onnxruntime 1.19 reads the file (tried)
TOLERANCE = 1e-5  # largest difference of a probability (assumed)
ROUNDING = 8.0
"""Where a probability differs by more than `TOLERANCE`, ONNX's logits may still be this many times (assumed) as far
from float64's as torch's own float32 logits are. Heads with large weights on features that hardly vary show the
rounding of the features in either library: a network of two short epochs differed by 2e-4 of a probability, where torch
itself was 1e-3 of a logit from float64 (measured)."""
HEADS = ("trained", "tuned")  # in the order in which their logits lie
BATCHES = (1, 2, 7)  # one image, the smallest batch, and one that is no power of two


def export_onnx(run: Run, images: NDArray[np.uint8], *, heads: Sequence[str]) -> tuple[Path, float]:
    """Write RUN/model.onnx: images (batch, 1, S, S) uint8 → logits (batch, H·C) float32, any batch, weights inside.

    `heads` are one or both of `HEADS`; the logits of the h-th are the columns from h·C on, and the file's metadata name
    heads and categories in that order. `images` (n, S, S) uint8 are real ones, n ≥ 7, for the comparison with torch;
    noise is compared as well. Returns the file and the largest difference of a probability. Raises SubmissionError,
    leaving an earlier file as it was, if the numbers of a head differ (see `ROUNDING`).
    """
    models = [load_model(run, tuned=head == "tuned") for head in heads]
    affine = {head: model.head for head, model in zip(heads, models, strict=True)}
    model = models[0]
    model.head = _side_by_side(list(affine.values()))
    path = run.path / "model.onnx"
    with replacing(path) as beside:
        metadata = {
            "categories": json.dumps(run.categories),
            "preprocessing": json.dumps(run.info["preprocessing"]),
            "heads": json.dumps(list(heads)),
        }
        _write(model, images, beside, metadata)
        worst = _compare(run.name, model, affine, beside, images)
    return path, worst


def _side_by_side(heads: Sequence[nn.Linear]) -> nn.Linear:
    """One affine head whose outputs are those of all the given ones, one after the other."""
    dimension, columns = heads[0].in_features, sum(head.out_features for head in heads)
    joined = nn.Linear(dimension, columns)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([head.weight for head in heads]))
        joined.bias.copy_(torch.cat([head.bias for head in heads]))
    return joined


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


def _compare(name: str, model: Classifier, heads: dict[str, nn.Linear], path: Path, images: NDArray[np.uint8]) -> float:
    """The largest difference of a probability, each head held against torch by itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).integers(0, 256, images[: max(BATCHES)].shape, dtype=np.uint8)
    worst = 0.0
    exact = copy.deepcopy(model).double()
    exact_heads = {head: copy.deepcopy(affine).double() for head, affine in heads.items()}
    for source, pixels in (("images of the validation set", images), ("noise", noise)):
        for batch in BATCHES:
            part = pixels[:batch, None].copy()
            found = np.asarray(session.run(["logits"], {"images": part})[0], dtype=np.float64)
            with torch.inference_mode():
                z, exact_z = model.features(torch.from_numpy(part)), exact.features(torch.from_numpy(part))
                expected = [
                    (head, affine(z).double().numpy(), exact_heads[head](exact_z).numpy())
                    for head, affine in heads.items()
                ]
            parts = np.split(found, len(heads), axis=1)
            # A head's rounding is its own: next to one of large weights, the other must not be let off.
            for columns, (head, torch_logits, exact_logits) in zip(parts, expected, strict=True):
                off = np.abs(expit(columns) - expit(torch_logits))
                worst = max(worst, float(off.max()))
                rounding = ROUNDING * np.abs(torch_logits - exact_logits).max()
                if not ((off <= TOLERANCE) | (np.abs(columns - exact_logits) <= rounding)).all():
                    raise SubmissionError(
                        f"run {name}: ONNX and torch differ by {off.max():.1e} for the {head} head on {source} at a "
                        f"batch of {batch} (at most {TOLERANCE:.0e}), so that it was not packaged; leave the run out "
                        "of the ensemble"
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
