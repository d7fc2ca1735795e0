"""PyGAD logs and prints on its own: a search of either kind leaves the terminal alone, and faults reach its caller."""

import logging
import warnings

import numpy as np
import pytest

from cxr_cft.search import maximise, maximise_islands


def alone(fitness, **options):
    """A search over four genes."""
    return maximise(fitness, np.zeros(4), scale=0.1, rng=np.random.default_rng(0), **options)


def together(fitness, **options):
    """Three searches over four shares."""
    return maximise_islands(fitness, np.full((1, 3, 4), 0.25), rng=np.random.default_rng(0), **options)


def concave(genomes):
    return -np.square(genomes - 1).sum(axis=-1)


@pytest.mark.parametrize("search", [alone, together])
def test_a_fault_in_the_fitness_reaches_the_caller_and_nobody_else(search, capfd, caplog):
    calls = []

    def faulty(genomes):
        calls.append(len(genomes))
        if len(calls) > 1:
            raise ZeroDivisionError("the fitness's own fault")
        return concave(genomes)

    with caplog.at_level(logging.DEBUG), pytest.raises(ZeroDivisionError, match="own fault"):
        search(faulty)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("search", [alone, together])
def test_nothing_is_printed_logged_or_warned_of(search, capfd, caplog):
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search(concave, generations=3, population=2)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not caught
