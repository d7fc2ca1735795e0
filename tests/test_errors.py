"""Messages that name the closest right name, and long lists that stay one line."""

import pytest

from cxr_cft import errors
from cxr_cft.errors import CxrCftError, did_you_mean, first_few


@pytest.mark.parametrize("name", ["DataError", "RecipeError", "RunError", "PredictionsError", "SubmissionError"])
def test_every_user_mistake_is_caught_as_one_family(name):
    kind = getattr(errors, name)
    assert issubclass(kind, CxrCftError)
    assert str(kind("what is wrong")) == "what is wrong"


def test_the_closest_name_is_offered_as_it_is_spelt():
    assert did_you_mean("pleural efusion", ["Edema", "Pleural Effusion"]) == " (did you mean 'Pleural Effusion'?)"


def test_a_name_in_another_case_is_found():
    assert did_you_mean("EDEMA", ["Edema", "Fracture"]) == " (did you mean 'Edema'?)"


@pytest.mark.parametrize("known", [[], ["Fracture", "Pneumothorax"]])
def test_nothing_is_offered_where_nothing_is_close(known):
    assert did_you_mean("Edema", known) == ""


def test_known_names_may_come_from_a_generator():
    assert did_you_mean("edma", (name for name in ["Edema"])) == " (did you mean 'Edema'?)"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        (range(7), "0, 1, 2 and 4 more"),
    ],
)
def test_a_list_shows_its_first_three_and_counts_the_rest(names, shown):
    assert first_few(names) == shown


def test_the_limit_of_a_list_can_be_moved():
    assert first_few("abcd", limit=2) == "a, b and 2 more"
