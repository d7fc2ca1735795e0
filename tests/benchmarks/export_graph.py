"""What ONNX Runtime makes of the exported graph, by itself and saved offline: loading, images a second, and int8.

The shipped backbones from scratch at 320 px (speed does not depend on the weights), two threads, a batch of eight; five
repetitions in turn. The processor's time, which other processes disturb less, is measured with one thread. What is
saved at the levels beyond basic has operations of ONNX Runtime alone, at the last ones in this processor's own layout.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from cxr_cft.settings import load_recipe
from cxr_cft.submission import export
from cxr_cft.submission.precision import convert
from cxr_cft.training.model import build_model
from tests.benchmarks.table import show, spread

RECIPES = ("densenet121", "convnext_tiny", "tf_efficientnetv2_s")
LEVELS = ("BASIC", "EXTENDED", "ALL")
BATCH, REPEATS = 8, 5


def session(path, threads, saved=None, level="ALL"):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    if saved:
        options.optimized_model_filepath = str(saved)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def variants(recipe, folder, images):
    """The same network as files: as it was exported before, as it is, as ONNX Runtime saves it, and in int8."""
    model = build_model(load_recipe(recipe, ["model.pretrained=false"])[1], 5).eval()
    plain, found = folder / f"{recipe}.onnx", {}
    kept = export.OPSET
    try:
        export.OPSET = 18
        export._write(model, images[:, 0], folder / f"{recipe}-18.onnx", {})
    finally:
        export.OPSET = kept
    export._write(model, images[:, 0], plain, {})
    found["at opset 18"] = folder / f"{recipe}-18.onnx"
    found["as exported"] = plain
    for level in LEVELS:
        found[f"saved at {level}"] = folder / f"{recipe}-{level}.onnx"
        session(plain, 1, found[f"saved at {level}"], level)
    for precision in ("fp16", "int8"):
        found[precision] = folder / f"{recipe}-{precision}.onnx"
        convert(plain, found[precision], precision, images)
    return found


def measure(files, images):
    """Per file the seconds to load, images a second with two threads, and CPU seconds an image with one."""
    loads, rates, costs = ({name: [] for name in files} for _ in range(3))
    alone = {name: session(path, 1) for name, path in files.items()}
    for each in alone.values():
        each.run(None, {"images": images})
    for _ in range(REPEATS):
        for name, path in files.items():
            begin = time.perf_counter()
            both = session(path, 2)
            loads[name].append(time.perf_counter() - begin)
            both.run(None, {"images": images})
            begin = time.perf_counter()
            both.run(None, {"images": images})
            rates[name].append(len(images) / (time.perf_counter() - begin))
            del both  # its waiting threads would take the other's time
            begin = time.process_time()
            alone[name].run(None, {"images": images})
            costs[name].append((time.process_time() - begin) / len(images))
    return loads, rates, costs


def main():
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 1, 320, 320), dtype=np.uint8)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for recipe in RECIPES:
            files = variants(recipe, Path(name), images)
            loads, rates, costs = measure(files, images)
            for variant in files:
                ratio = statistics.median(
                    here / there for here, there in zip(costs["as exported"], costs[variant], strict=True)
                )
                milliseconds = ([1e3 * value for value in values[variant]] for values in (loads, costs))
                load, cost = (spread(values, 0) for values in milliseconds)
                rows.append([recipe, variant, load, spread(rates[variant], 1), cost, f"{ratio:.2f}"])
    show(["backbone", "graph", "ms to load", "images a second", "ms of CPU an image", "speed by CPU time"], rows)
