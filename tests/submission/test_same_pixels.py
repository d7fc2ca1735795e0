"""The bundle, `cxr-cft predict` and the training loader see the same pixels, in whatever format a film comes."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import torch

from cxr_cft.data.cache import cached_images
from cxr_cft.data.labels import CATEGORIES
from cxr_cft.data.loader import OrderedBatches, Views, loader, read_batches
from cxr_cft.data.table import read_table
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import predict_logits
from tests.films import FILMS

IN_THE_BUNDLE = """
import sys
sys.modules["cxr_cft"] = None  # its own copy, not the package's
folder, paths, target, size = sys.argv[1:]
sys.path.insert(0, folder)
from pathlib import Path
import numpy, images
assert images.__file__.startswith(folder)
numpy.save(target, [images.read_image(path, int(size)) for path in Path(paths).read_text().splitlines()])
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A table of one film in every format, each a view of its own patient."""
    root = tmp_path_factory.mktemp("films") / "films"
    paths = [f"films/valid/patient{n:05d}/study1/{name}" for n, name in enumerate(FILMS)]
    for path, content in zip(paths, FILMS.values(), strict=True):
        file = root.parent / path
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    with (root / "valid.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Path"], *([path] for path in paths)])
    return read_table(root / "valid.csv", root, CATEGORIES, labelled=False)


@pytest.fixture
def fed(run, films, monkeypatch):
    """What `cxr-cft predict` feeds the network (N, 1, S, S)."""
    seen = []

    def network(images):
        seen.append(images.clone())
        return torch.zeros(len(images), len(CATEGORIES))

    network.to = lambda device: network  # noqa: ARG005
    monkeypatch.setattr("cxr_cft.training.inference.load_model", lambda *_, **__: network)
    predict_logits(run, films)
    return torch.cat(seen).numpy()


def yielded(views):
    """What a loader of these views yields (N, 1, S, S)."""
    return torch.cat([images for images, _ in read_batches(loader(views, OrderedBatches(len(views), 7), 0))]).numpy()


def test_bundle_prediction_and_training_see_the_same_pixels(run, films, fed, bundle, tmp_path):
    size = Recipe.model_validate(run.info["recipe"]).model.image_size
    (tmp_path / "paths").write_text("".join(f"{films.file(row)}\n" for row in range(len(films))))
    arguments = [str(bundle.folder), str(tmp_path / "paths"), str(tmp_path / "pixels.npy"), str(size)]
    command = [sys.executable, "-B", "-W", "error", "-c", IN_THE_BUNDLE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bundled = np.load(tmp_path / "pixels.npy")[:, None]

    decoded = yielded(Views(films, size))
    cached = yielded(Views(films, size, cache=cached_images(films, size, tmp_path / "cache")))
    for row, name in enumerate(FILMS):
        assert np.ptp(bundled[row]) > 200, name  # a film, not black
        for other in (fed, decoded, cached):
            np.testing.assert_array_equal(other[row], bundled[row], err_msg=name)
    assert bundled.shape == fed.shape == decoded.shape == cached.shape == (len(FILMS), 1, size, size)
