"""Features are kept in 16 bits where that is asked for and changes no AUROC, and what was measured is said."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_cft.artifacts import read_json
from cxr_cft.cft import cached_features, features


@pytest.fixture
def in_16_bits(run, made_features, with_settings):
    """The run with features in 16 bits, or as asked, of a model made with the given scale and offset."""

    def made(asked="float16", **changes):
        made_features(run, **changes)
        return with_settings(run, "cft", features=asked)

    return made


def test_16_bits_are_kept_where_no_auroc_changes_and_what_was_measured_is_told(in_16_bits, splits, notes, passes):
    exact = np.array(cached_features(in_16_bits(asked="float32", scale=1 / 3), {"train": splits["train"]})["train"])
    run = in_16_bits(scale=1 / 3)
    found = cached_features(run, {"train": splits["train"]}, notes)["train"]
    assert found.dtype == np.float16
    assert isinstance(found, np.memmap)
    assert (found != exact).any()
    np.testing.assert_array_equal(found, exact.astype(np.float16))
    folder = run.path / "features"
    assert (folder / "train.npy").stat().st_size == 128 + 2 * 26 * 16
    why = r"the largest change of an AUROC by float16 is 0.0e+00 (Atelectasis, of 3 categories)"
    assert notes.told[-1] == f"features of train are kept in float16: {why}"
    assert read_json(folder / "train.json")["16 bits"] == {
        "kept": "float16",
        "largest AUROC change": 0.0,
        "why": why,
    }
    assert sorted(path.name for path in folder.iterdir()) == ["train.json", "train.npy"]
    again = cached_features(run, {"train": splits["train"]})["train"]
    np.testing.assert_array_equal(again, found)
    assert passes == ["train", "train"]


def test_16_bits_are_refused_where_they_cost_auroc(in_16_bits, splits, notes):
    run = in_16_bits(offset=60_000.0)  # float16 knows every 32nd number there
    found = cached_features(run, {"train": splits["train"]}, notes)["train"]
    assert found.dtype == np.float32
    (told,) = notes.told
    assert told.startswith("features of train are kept in float32: the largest change of an AUROC by float16 is ")
    assert read_json(run.path / "features" / "train.json")["16 bits"]["largest AUROC change"] > features.NIL
    cached_features(run, {"train": splits["train"]}, notes)
    assert len(notes.told) == 1


def test_16_bits_are_refused_where_a_feature_overflows(in_16_bits, splits, notes):
    found = cached_features(in_16_bits(scale=1000.0), {"valid": splits["valid"]}, notes)["valid"]
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert notes.told == ["features of valid are kept in float32: some are too large for float16, or not finite"]


def test_16_bits_are_refused_where_nothing_can_be_measured(in_16_bits, splits, notes):
    unlabelled = replace(splits["test"], labels=np.full_like(splits["test"].labels, np.nan))
    found = cached_features(in_16_bits(), {"test": unlabelled}, notes)["test"]
    assert found.dtype == np.float32
    assert notes.told == [
        "features of test are kept in float32: test.csv has no category with both known labels to measure a loss on"
    ]


def test_nothing_is_measured_where_32_bits_are_asked_for(run, splits, notes):
    cached_features(run, splits, notes)
    assert not notes.told
    assert read_json(run.path / "features" / "train.json")["16 bits"] is None
