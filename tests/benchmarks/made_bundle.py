"""A bundle of untrained models, whose speed and memory are those of trained ones, and images to ask it about."""

import json

import numpy as np
from PIL import Image

from cxr_cft.artifacts import write_json
from cxr_cft.data.images import preprocessing
from cxr_cft.data.labels import COMPETITION
from cxr_cft.settings import load_recipe
from cxr_cft.submission import bundle, export
from cxr_cft.training.model import build_model

REAL = tuple((name, name, 320) for name in ("densenet121", "convnext_tiny", "tf_efficientnetv2_s"))
"""The shipped recipes: name, backbone, pixels."""
TINY = (("tiny", "test_resnet", 32),)


def make_bundle(folder, kinds=REAL):
    """Write a bundle with one model of each kind, all of equal weight; returns the torch models."""
    (folder / "models").mkdir(parents=True)
    members, models = [], []
    for name, backbone, size in kinds:
        recipe = load_recipe("densenet121", [f"model.backbone={backbone}", "model.pretrained=false"])[1]
        model = build_model(recipe, len(COMPETITION)).eval()
        metadata = {
            "categories": json.dumps(COMPETITION),
            "preprocessing": json.dumps(preprocessing(size)),
            "heads": json.dumps(["trained"]),
        }
        export._write(model, np.zeros((2, size, size), np.uint8), folder / "models" / f"{name}.onnx", metadata)
        line = {"logit": True, "slope": 1.0, "intercept": 0.0}
        members.append(
            {
                "name": name,
                "model": f"models/{name}.onnx",
                "head": "trained",
                "first": 0,
                "categories": COMPETITION,
                "preprocessing": preprocessing(size),
                "weights": dict.fromkeys(COMPETITION, 1.0),
                "scale": dict.fromkeys(COMPETITION, line),
            }
        )
        models.append(model)
    specification = {
        "output": COMPETITION,
        "aggregation": "max",
        "members": members,
        "output_scale": {name: {"slope": 1.0, "intercept": 0.0} for name in COMPETITION},
        "prior": dict.fromkeys(COMPETITION, 0.2),
    }
    write_json(folder / "submission.json", specification)
    bundle._write_code(folder)
    bundle._write_manifest(folder)
    return models


def write_film(path, width, height, seed=0):
    """A JPEG without detail at the size of a pixel, whose bytes and time to decode are like a radiograph's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
