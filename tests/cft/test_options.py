"""Settings that mean nothing are refused, and the defaults are the recipe's."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from cxr_cft.cft.options import METHODS, PULLS, RULES, Options
from cxr_cft.settings import CftSettings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rule": "best"}, "rule must be one of better, interval, not best"),
        ({"pulls": ()}, "pulls must be one or more numbers above 0"),
        ({"pulls": (1.0, 0.0)}, "pulls must be one or more numbers above 0"),
        ({"pulls": (-1.0,)}, "pulls must be one or more numbers above 0"),
        ({"pulls": (np.inf,)}, "pulls must be one or more numbers above 0"),
        ({"pulls": (np.nan,)}, "pulls must be one or more numbers above 0"),
        ({"gamma_negative": -0.1}, "gamma_negative and gamma_positive must be finite and not negative"),
        ({"gamma_negative": np.inf}, "gamma_negative and gamma_positive must be finite and not negative"),
        ({"gamma_positive": -1}, "gamma_negative and gamma_positive must be finite and not negative"),
        ({"gamma_positive": np.nan}, "gamma_negative and gamma_positive must be finite and not negative"),
        ({"clip": -0.01}, r"clip must lie in \[0, 1\), but it is -0.01"),
        ({"clip": 1.0}, r"clip must lie in \[0, 1\), but it is 1"),
        ({"clip": np.nan}, r"clip must lie in \[0, 1\), but it is nan"),
        ({"population": 1}, "population must be at least 2, generations and patience at least 1"),
        ({"generations": 0}, "population must be at least 2, generations and patience at least 1"),
        ({"patience": 0}, "population must be at least 2, generations and patience at least 1"),
        *(
            ({name: value}, "guard and confidence must lie between 0 and 1")
            for name in ("guard", "confidence")
            for value in (0.0, 1.0, 95, np.nan)
        ),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_the_reason(setting, message):
    with pytest.raises(ValueError, match=message):
        Options(**setting)


@pytest.mark.parametrize(
    "setting",
    [
        {"gamma_negative": 0, "gamma_positive": 0, "clip": 0},
        {"clip": 0.99, "confidence": 0.01, "guard": 0.99, "pulls": [1e-6]},
        {"population": 2, "generations": 1, "patience": 1, "rule": "interval"},
    ],
)
def test_what_lies_at_the_edge_is_allowed(setting):
    options = Options(**setting)
    assert {name: getattr(options, name) for name in setting} == setting


def test_the_defaults_are_the_recipes():
    recipe = CftSettings()
    for field in fields(Options):
        assert getattr(Options(), field.name) == getattr(recipe, field.name), field.name


def test_what_the_recipe_offers_exists():
    for rule in RULES:
        assert CftSettings(rule=rule).rule == Options(rule=rule).rule
    assert CftSettings(methods=METHODS).methods == METHODS


def test_pulls_run_from_strong_to_weak():
    assert (np.diff(PULLS) < 0).all()
    assert (PULLS[0], PULLS[-1]) == (100, 1e-4)


def test_options_do_not_change_after_they_were_checked():
    with pytest.raises(FrozenInstanceError):
        Options().clip = 2
