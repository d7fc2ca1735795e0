"""Raw states and policies: every known label counts, every policy does what its name says, targets and mask agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxr_cft.data.labels import CATEGORIES, COMPETITION, chosen_categories, known_labels, training_targets
from cxr_cft.errors import RecipeError
from cxr_cft.settings import LabelSettings

STATES = (1.0, 0.0, -1.0, np.nan)
NAMES = ("Edema", "Fracture", "Pneumonia")

raw_labels = st.integers(0, 12).flatmap(lambda rows: arrays(np.float64, (rows, 3), elements=st.sampled_from(STATES)))
blanks = st.sampled_from(["negative", "ignore"])
uncertains = st.sampled_from(["ignore", "zero", "one"])
settings_of_any_kind = st.builds(
    LabelSettings,
    blank=blanks | st.dictionaries(st.sampled_from([*NAMES, "default"]), blanks),
    uncertain=uncertains | st.dictionaries(st.sampled_from([*NAMES, "default"]), uncertains),
)


def column(*states: float) -> np.ndarray:
    return np.array(states)[:, None]


@pytest.mark.parametrize("blank", ["negative", "ignore"])
@pytest.mark.parametrize("uncertain", ["ignore", "zero", "one"])
def test_each_state_becomes_what_its_policy_says(blank, uncertain):
    targets, mask = training_targets(column(*STATES), ["Edema"], LabelSettings(blank=blank, uncertain=uncertain))
    assert targets[:, 0].tolist() == [1, 0, uncertain == "one", 0]
    assert mask[:, 0].tolist() == [1, 1, uncertain != "ignore", blank == "negative"]


@settings(deadline=None)
@given(raw_labels, settings_of_any_kind)
def test_every_known_label_counts_as_it_is(raw, settings):
    targets, mask = training_targets(raw, NAMES, settings)
    known = (raw == 1) | (raw == 0)
    assert (mask[known] == 1).all()
    assert (targets[known] == raw[known]).all()


@settings(deadline=None)
@given(raw_labels, settings_of_any_kind)
def test_a_category_without_a_known_label_is_left_out_altogether(raw, settings):
    raw[:, 1] = np.where(raw[:, 1] >= 0, np.nan, raw[:, 1])
    assert not training_targets(raw, NAMES, settings)[1][:, 1].any()


@settings(deadline=None)
@given(raw_labels, settings_of_any_kind)
def test_targets_and_mask_are_binary_float32_and_never_nan(raw, settings):
    for values in training_targets(raw, NAMES, settings):
        assert values.shape == raw.shape
        assert values.dtype == np.float32
        assert np.isin(values, (0, 1)).all()


@settings(deadline=None)
@given(raw_labels, settings_of_any_kind)
def test_raw_states_are_not_changed_by_a_policy(raw, settings):
    before = raw.copy()
    training_targets(raw, NAMES, settings)
    np.testing.assert_array_equal(raw, before)


@settings(deadline=None)
@given(raw_labels, settings_of_any_kind, st.permutations(range(3)))
def test_a_category_keeps_its_policy_in_any_order_of_columns(raw, settings, order):
    names = [NAMES[column] for column in order]
    for moved, original in zip(
        training_targets(raw[:, order], names, settings), training_targets(raw, NAMES, settings), strict=True
    ):
        np.testing.assert_array_equal(moved, original[:, order])


@settings(deadline=None)
@given(raw_labels)
def test_known_labels_are_positive_or_negative_and_the_rest_is_nan(raw):
    known = known_labels(raw)
    np.testing.assert_array_equal(np.isnan(known), np.isnan(raw) | (raw == -1))
    np.testing.assert_array_equal(known[~np.isnan(known)], raw[(raw == 0) | (raw == 1)])


def test_a_named_policy_goes_before_the_default_and_the_default_before_the_fallback():
    raw = np.array([[1.0, 1.0], [-1.0, -1.0], [np.nan, np.nan]])
    settings = LabelSettings(blank={"Edema": "ignore"}, uncertain={"default": "one", "Edema": "zero"})
    targets, mask = training_targets(raw, ("Edema", "Fracture"), settings)
    assert targets.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert mask.tolist() == [[1, 1], [1, 1], [0, 1]]  # a blank counts as negative where no policy is named


def test_a_policy_may_name_a_category_that_is_not_learnt_this_time():
    settings = LabelSettings(uncertain={"Pneumothorax": "one"})
    targets, mask = training_targets(column(1.0, -1.0), ["Edema"], settings)
    assert mask[:, 0].tolist() == [1, 0]
    assert targets[0, 0] == 1


@pytest.mark.parametrize("key", ["blank", "uncertain"])
def test_a_policy_for_what_is_no_category_is_answered_with_the_closest(key):
    settings = LabelSettings(**{key: {"Oedema": "ignore"}})
    with pytest.raises(
        RecipeError, match=rf"^labels\.{key} names 'Oedema', which is no category \(did you mean 'Edema'\?\)$"
    ):
        training_targets(column(1.0), ["Edema"], settings)


def test_categories_are_chosen_by_a_word_or_by_name():
    assert chosen_categories(LabelSettings()) == CATEGORIES
    assert chosen_categories(LabelSettings(categories="competition")) == COMPETITION
    assert chosen_categories(LabelSettings(categories=("Mass", "Edema"))) == ("Mass", "Edema")


def test_the_competitions_categories_stand_in_the_order_of_its_output():
    assert ",".join(COMPETITION) == "Atelectasis,Cardiomegaly,Consolidation,Edema,Pleural Effusion"
    assert set(COMPETITION) < set(CATEGORIES)
    assert len(set(CATEGORIES)) == 14
