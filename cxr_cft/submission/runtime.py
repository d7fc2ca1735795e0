"""A bundle's models on ONNX Runtime: device, threads, and what each model must be. Travels with predict.py."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from cxr_cft.data.images import preprocessing
from cxr_cft.submission.telling import Failure

if TYPE_CHECKING:
    Images = np.ndarray[Any, np.dtype[np.uint8]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]


class Model:
    """One ONNX file of the bundle, ready to run: a backbone, and the logits of its heads side by side."""

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = processors()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=wanted_providers(onnxruntime.get_available_providers())
        )
        self.provider = self.session.get_providers()[0].replace("ExecutionProvider", "")
        told = self.session.get_modelmeta().custom_metadata_map
        self.preprocessing = json.loads(told["preprocessing"])
        self.size = int(self.preprocessing["size"])
        categories = json.loads(told["categories"])
        self.columns = [(head, category) for head in json.loads(told["heads"]) for category in categories]

    def check(self, member: dict[str, Any]) -> None:
        """Raise Failure unless the model takes the images and has the columns that submission.json says it does."""
        # The bundle's own image code, and then the model: each must be what the member was packed with.
        if member["preprocessing"] != preprocessing(int(member["preprocessing"]["size"])):
            raise Failure(f"model {member['name']} needs other image code than this bundle's; package it again")
        wanted = [(member["head"], category) for category in member["categories"]]
        first = member["first"]
        if self.preprocessing != member["preprocessing"] or self.columns[first : first + len(wanted)] != wanted:
            raise Failure(f"{member['model']} is not what submission.json says of {member['name']}; package it again")

    def logits(self, images: Images) -> Floats:
        """Logits (B, columns) of images (B, 1, S, S)."""
        return np.asarray(self.session.run(["logits"], {"images": images})[0], dtype=np.float64)


def load_models(bundle: Path, members: Sequence[dict[str, Any]]) -> dict[str, Model]:
    """The members' models by file name, each once. Raises Failure if one is not what submission.json says."""
    models: dict[str, Model] = {}
    for member in members:
        if member["model"] not in models:
            models[member["model"]] = Model(bundle / member["model"])
        models[member["model"]].check(member)
    return models


def processors() -> int:
    """How many processors this process may use: in a container fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def wanted_providers(available: Sequence[str]) -> list[str]:
    """CUDA where a device really is (the library lists it on any machine), then the CPU."""
    cuda = "CUDAExecutionProvider" in available and Path("/dev/nvidiactl").exists()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
