"""Images a second of a bundle's three 320-px models on the CPU: predict.py's own loop against eager PyTorch's.

The shipped backbones from scratch (speed does not depend on the weights), 96 JPEGs of 390 × 320 pixels, both with all
processors, decoding included; three repetitions in turn.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cxr_cft.data.images import preprocessing, read_image
from cxr_cft.settings import load_recipe
from cxr_cft.submission import export, predict, runtime
from cxr_cft.training.model import build_model
from tests.benchmarks.table import show, spread

RECIPES = ("densenet121", "convnext_tiny", "tf_efficientnetv2_s")
IMAGES, BATCH = 96, 16


def eager(models, files):
    begin = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            images = np.stack([read_image(file, 320)[None] for file in files[start : start + BATCH]])
            for model in models:
                torch.sigmoid(model(torch.from_numpy(images)))
    return len(files) / (time.perf_counter() - begin)


def bundled(models, specification, files):
    names = [str(file) for file in files]
    begin = time.perf_counter()
    predict._scores(models, specification, names, files, BATCH, {})
    return len(files) / (time.perf_counter() - begin)


def main():
    categories = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        files = [folder / f"{number}.jpg" for number in range(IMAGES)]
        for file in files:
            coarse = Image.fromarray(rng.integers(0, 256, (16, 20), dtype=np.uint8))
            coarse.resize((390, 320), Image.Resampling.BICUBIC).save(file, quality=90)
        models, entries = [], []
        for recipe in RECIPES:
            metadata = {
                "categories": json.dumps(categories),
                "preprocessing": json.dumps(preprocessing(320)),
                "heads": json.dumps(["trained"]),
            }
            loaded = load_recipe(recipe, ["model.pretrained=false"])[1]
            model = build_model(loaded, len(categories)).eval()
            export._write(model, np.zeros((2, 320, 320), np.uint8), folder / f"{recipe}.onnx", metadata)
            entry = {
                "name": recipe,
                "model": f"{recipe}.onnx",
                "head": "trained",
                "first": 0,
                "categories": categories,
                "preprocessing": preprocessing(320),
            }
            models.append(model)
            entries.append(entry)
        packed = runtime.load_models(folder, entries)
        specification = {"members": entries, "output": categories}
        rates = {"predict.py (ONNX Runtime)": [], "eager PyTorch": []}
        for _ in range(3):
            rates["predict.py (ONNX Runtime)"].append(bundled(packed, specification, files))
            rates["eager PyTorch"].append(eager(models, files))
    ratios = [here / there for here, there in zip(*rates.values(), strict=True)]
    rows = [[way, spread(values, 1)] for way, values in rates.items()]
    show(["three models", "images a second, median (range)"], [*rows, ["ratio", spread(ratios)]])
