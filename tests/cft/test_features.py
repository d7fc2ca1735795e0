"""A cached feature is the one a fresh pass would give, and nobody waits for a second pass without a reason."""

import numpy as np
import pytest

from cxr_cft.artifacts import read_json
from cxr_cft.cft import cached_features, features
from cxr_cft.data.splits import read_splits
from cxr_cft.data.table import Table
from cxr_cft.errors import DataError
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import default_device, over_table
from cxr_cft.training.model import load_model


@pytest.fixture
def splits(trained, data_folder):
    return read_splits(data_folder, trained.categories)


@pytest.fixture
def passes(monkeypatch):
    """The splits that were passed over, in order."""
    passed = []

    def counting(function, table, *rest):
        passed.append(table.source.stem)
        return over_table(function, table, *rest)

    monkeypatch.setattr(features, "over_table", counting)
    return passed


def fresh(run, table: Table):
    device = default_device()
    recipe = Recipe.model_validate(run.info["recipe"])
    return over_table(load_model(run).to(device).features, table, recipe, device, "")


def test_features_are_those_of_a_fresh_pass_in_evaluation_mode(run, splits):
    found = cached_features(run, splits)
    assert list(found) == ["train", "valid", "test"]
    for split, table in splits.items():
        np.testing.assert_array_equal(found[split], fresh(run, table))
        assert found[split].dtype == np.float32
        assert len(found[split]) == len(table)


def test_the_head_of_features_is_the_model(run, splits):
    model = load_model(run)
    recipe = Recipe.model_validate(run.info["recipe"])
    logits = over_table(model, splits["valid"], recipe, default_device(), "")
    head = model.head
    ours = cached_features(run, splits)["valid"] @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(ours, logits, atol=1e-5)


def test_a_second_reading_makes_no_pass_and_is_memory_mapped(run, splits, passes):
    first = cached_features(run, splits)
    assert passes == ["train", "valid", "test"]
    second = cached_features(run, splits)
    assert len(passes) == 3
    for split in splits:
        assert isinstance(second[split], np.memmap)
        np.testing.assert_array_equal(second[split], first[split])


def test_features_cannot_be_written_to_through_the_cache(run, splits):
    with pytest.raises(ValueError, match="read-only"):
        cached_features(run, splits)["valid"][0, 0] = 0


def test_other_weights_make_every_pass_anew(run, splits, passes, retrain):
    old = np.array(cached_features(run, splits)["valid"])
    retrained = retrain(run)
    new = cached_features(retrained, splits)["valid"]
    assert passes == ["train", "valid", "test"] * 2
    np.testing.assert_array_equal(new, fresh(retrained, splits["valid"]))
    assert old.shape == new.shape


def test_a_changed_csv_makes_its_own_pass_anew(run, own_data, passes, change_split):
    cached_features(run, read_splits(own_data, run.categories))
    change_split(own_data, "valid", lambda rows: rows[::-1])
    changed = read_splits(own_data, run.categories)
    found = cached_features(run, changed)
    assert passes[3:] == ["valid"]
    np.testing.assert_array_equal(found["valid"], fresh(run, changed["valid"]))


def test_as_many_but_other_rows_of_the_same_csv_make_a_pass_anew(run, splits, passes):
    train = splits["train"]
    rows = np.arange(len(train))
    for left_out in (rows >= 2, rows < len(rows) - 2):  # as patients of another split are
        part = train.take(left_out)
        found = cached_features(run, {"train": part})
        np.testing.assert_array_equal(found["train"], fresh(run, part))
    assert len(passes) == 2


@pytest.mark.parametrize("name", ["valid.npy", "valid.json"])
def test_half_a_cache_is_none(run, splits, passes, name):
    cached_features(run, splits)
    (run.path / "features" / name).unlink()
    cached_features(run, splits)
    assert passes[3:] == ["valid"]


def test_killed_between_array_and_key_the_old_key_does_not_vouch_for_the_new_array(run, own_data, splits, monkeypatch):
    cached_features(run, splits)

    def killed(*_):
        raise KeyboardInterrupt

    elsewhere = {"train": read_splits(own_data, run.categories)["train"].take(np.arange(26) < 13)}
    with monkeypatch.context() as patch:
        patch.setattr(features, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_features(run, elsewhere)
    np.testing.assert_array_equal(cached_features(run, splits)["train"], fresh(run, splits["train"]))


def test_the_key_names_the_weights_and_the_preprocessing(run, splits):
    cached_features(run, splits)
    key = read_json(run.path / "features" / "valid.json")
    assert key["model"] == run.info["files"]["model.safetensors"]
    assert key["preprocessing"] == run.info["preprocessing"]


def test_a_missing_image_is_named_before_any_pass(run, own_data, passes):
    splits = read_splits(own_data, run.categories)
    splits["valid"].file(3).unlink()
    with pytest.raises(DataError, match=r"1 of 12 images are missing: Tiny/valid/patient00030/study1/view1_frontal"):
        cached_features(run, {"valid": splits["valid"]})
    assert not passes
