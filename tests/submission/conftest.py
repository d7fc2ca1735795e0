"""A small ensemble of two runs, and the bundle made from it, once."""

import shutil

import numpy as np
import pytest

from cxr_cft.artifacts import open_run
from cxr_cft.cft.tune import tune_runs
from cxr_cft.ensemble.search import search_ensemble
from cxr_cft.submission.bundle import package
from cxr_cft.training.train import train_run


@pytest.fixture(scope="session")
def weights(run, recipe, data, tmp_path_factory):
    """Two runs: one with tuned heads, one of another size as trained."""
    folder = tmp_path_factory.mktemp("members")
    tuned = open_run(shutil.copytree(run.path, folder / "tuned"))
    # Pulled strongly, the heads stay small: float32 of torch itself must be nearer to exact than what tests allow.
    [_] = tune_runs([tuned], methods=["bce"], overrides=["cft.pulls=[10.0]"])
    model = recipe.model.model_copy(update={"image_size": 48, "backbone": "test_convnext"})
    train_run(recipe.model_copy(update={"model": model}), "trained", data, folder)
    return folder


@pytest.fixture(scope="session")
def ensemble(weights):
    found = search_ensemble([], weights, [], None)
    # Whatever the search prefers, both members are to be seen in the bundle.
    members = tuple(m.model_copy(update={"weight": w}) for m, w in zip(found.members, (0.25, 0.75), strict=True))
    return found.model_copy(update={"members": members})


@pytest.fixture(scope="session")
def bundle(ensemble, tmp_path_factory):
    """A packaged submission that no test may change."""
    return package(ensemble, "made", tmp_path_factory.mktemp("submissions"))


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 32, 32), dtype=np.uint8)
