"""Images a second of a bundle's three 320-px models on the CPU: predict.py, eager PyTorch, ONNX Runtime alone.

The shipped backbones from scratch (speed does not depend on the weights). predict.py is the script itself, from the
CSV to the scores, once its models are loaded; eager PyTorch is a plain loop that decodes a batch and asks each model;
ONNX Runtime alone gets tensors that are ready. 96 JPEGs of 2,828 × 2,320 pixels, as the competition's, then 96 of
390 × 320; in turn, three repetitions.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cxr_cft.data.images import read_image
from cxr_cft.data.processors import processors
from cxr_cft.submission import predict, runtime
from cxr_cft.submission.inputs import Way
from cxr_cft.submission.predict import BATCH
from tests.benchmarks.made_bundle import make_bundle, write_film
from tests.benchmarks.table import show, spread

IMAGES, REPETITIONS = 96, 3
SIDES = {"2,828 × 2,320": (2828, 2320), "390 × 320": (390, 320)}


def eager(models, files):
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            images = np.stack([read_image(file, 320)[None] for file in files[start : start + BATCH]])
            for model in models:
                torch.sigmoid(model(torch.from_numpy(images)))


def alone(models, tensors):
    for start in range(0, len(tensors), BATCH):
        for model in models.values():
            model.session.run(["logits"], {"images": tensors[start : start + BATCH]})


def bundled(models, specification, files):
    paths, ways = [str(file) for file in files], [Way(Path("/"), 0)] * len(files)
    predict._scores(models, specification, paths, ways, BATCH, processors())


def rate(work, *arguments):
    begin = time.perf_counter()
    work(*arguments)
    return IMAGES / (time.perf_counter() - begin)


def main():
    torch.set_num_threads(processors())
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_bundle(folder / "bundle")
        specification = json.loads((folder / "bundle" / "submission.json").read_text())
        packed = runtime.load_models(folder / "bundle", specification["members"])
        for sides, (width, height) in SIDES.items():
            files = [folder / f"{width}-{number}.jpg" for number in range(IMAGES)]
            for number, file in enumerate(files):
                write_film(file, width, height, number)
            tensors = np.stack([read_image(file, 320)[None] for file in files])
            rates = {"predict.py": [], "eager PyTorch, a plain loop": [], "ONNX Runtime on ready tensors": []}
            for _ in range(REPETITIONS):
                for way, values in rates.items():
                    if way == "predict.py":
                        values.append(rate(bundled, packed, specification, files))
                    elif way.startswith("eager"):
                        values.append(rate(eager, models, files))
                    else:
                        values.append(rate(alone, packed, tensors))
            ours = rates["predict.py"]
            for way, values in rates.items():
                ratios = [here / there for here, there in zip(ours, values, strict=True)]
                rows.append([sides, way, spread(values, 1), "" if values is ours else spread(ratios)])
    show(["images", "way", "images a second, median (range)", "predict.py against it"], rows)
