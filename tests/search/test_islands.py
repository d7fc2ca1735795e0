"""Many searches at once, each of which gets what it would get alone: its own optimum."""

import random

import numpy as np
import pytest

from cxr_cft.search import maximise_islands

RNG = np.random.default_rng(0)
TARGETS = RNG.dirichlet(np.ones(4), size=12).astype(np.float32)
"""The optimum (G,) of each of twelve islands; none is near another by more than chance."""


def concave(genomes):
    """Its maximum is 0 on every island, at that island's target."""
    return -np.square(genomes - TARGETS[: genomes.shape[1]]).sum(axis=2)


def search(fitness=concave, start=None, *, seed=0, **options):
    start = np.full((1, 12, 4), 0.25) if start is None else start
    return maximise_islands(fitness, start, rng=np.random.default_rng(seed), **options)


class Recorder:
    """A fitness that keeps every population it was given."""

    def __init__(self, fitness=concave):
        self.fitness = fitness
        self.populations = []

    def __call__(self, genomes):
        self.populations.append(genomes.copy())
        return self.fitness(genomes)


def test_every_island_reaches_its_own_optimum():
    genomes, fitness = search(generations=80)
    assert genomes.shape == (12, 4)
    assert fitness.shape == (12,)
    np.testing.assert_allclose(genomes, TARGETS, atol=0.03)
    np.testing.assert_array_equal(fitness, concave(genomes[None])[0])


def test_an_optimum_in_a_corner_is_reached_exactly():
    # A member that is worth nothing gets a weight of exactly 0, which a step away from the simplex does.
    genomes, _ = search(lambda genomes: genomes[:, :, 0] - genomes[:, :, 1])
    np.testing.assert_allclose(genomes, np.tile([1, 0, 0, 0], (12, 1)), atol=1e-6)


def test_one_islands_fitness_has_no_say_in_another():
    # The third island offers a thousand times as much, and the first nothing at all.
    offer = np.array([0, 1, 1000, 1] + [1] * 8)
    genomes, _ = search(lambda genomes: concave(genomes) * offer, generations=80)
    np.testing.assert_allclose(genomes[1:], TARGETS[1:], atol=0.03)


def test_islands_never_exchange_genes():
    # Each of two islands has a member that the other does not know: it can come from nowhere but the start.
    start = np.zeros((2, 2, 4))
    start[:, :, 0] = 0.5
    start[1, 0, 1] = start[1, 1, 2] = 0.5
    recorder = Recorder(lambda genomes: genomes[:, :, 1:].sum(axis=2))
    search(recorder, start, scale=0.0, generations=10)
    for population in recorder.populations:
        assert not population[:, 0, 2:].any()
        assert not population[:, 1, [1, 3]].any()
    assert (recorder.populations[-1][:, 0, 1] == 0.5).mean() > 0.9
    assert (recorder.populations[-1][:, 1, 2] == 0.5).mean() > 0.9


def test_crossover_combines_what_two_starts_have():
    # Mutation is far too small to mend what is missing; the two members together are best.
    start = np.repeat(np.eye(4)[:2, None], 12, axis=1)
    genomes, _ = search(lambda genomes: genomes[:, :, :2].min(axis=2), start, scale=1e-9)
    np.testing.assert_allclose(genomes, np.tile([0.5, 0.5, 0, 0], (12, 1)), atol=1e-6)


def test_selection_favours_the_fittest_of_each_island():
    # Of genomes of which each is a member alone, mutated by nothing, the best one takes over, on each island another.
    recorder = Recorder(lambda genomes: (genomes * np.roll(np.arange(4), 1)[None, None]).sum(axis=2))
    search(recorder, np.repeat(np.eye(4)[:, None], 12, axis=1), scale=0.0, generations=1, population=400)
    before, after = (population[:, :, 0].mean() for population in recorder.populations)
    assert before == pytest.approx(0.25)
    # The best fourth wins a tournament of three with the probability 1 − ¾³ = 0.578; crossed, it keeps that share.
    assert after == pytest.approx(0.578, abs=0.05)


@pytest.mark.parametrize("generations", [1, 5])
def test_never_worse_than_the_best_of_the_starts_on_each_island(generations):
    start = np.random.default_rng(1).dirichlet(np.ones(4), size=(5, 12)).astype(np.float32)
    start[3, :6] = TARGETS[:6]
    genomes, fitness = search(start=start, generations=generations, population=6)
    best = concave(start / start.sum(axis=2, keepdims=True)).max(axis=0)
    assert (fitness >= best).all()
    np.testing.assert_allclose(genomes[:6], TARGETS[:6], atol=1e-6)
    np.testing.assert_array_equal(fitness, concave(genomes[None])[0])


def test_no_island_ever_loses_its_best():
    recorder = Recorder()
    search(recorder, generations=30, population=5)
    best = np.stack([concave(population).max(axis=0) for population in recorder.populations])
    assert (np.diff(best, axis=0) >= 0).all()
    assert (best[-1] > best[0]).all()


def test_a_population_that_the_starts_fill_is_taken_as_it_is():
    start = np.random.default_rng(0).dirichlet(np.ones(4), size=(6, 12))
    recorder = Recorder()
    search(recorder, start, population=6, generations=1)
    np.testing.assert_allclose(recorder.populations[0], start, rtol=1e-6)


def test_the_first_population_is_the_starts_and_mutations_of_each():
    start = np.repeat(np.eye(4)[:2, None], 12, axis=1)
    recorder = Recorder()
    search(recorder, start, generations=1, scale=0.01)
    first = recorder.populations[0]
    np.testing.assert_array_equal(first[:2], start)
    assert (first[2::2, :, 0] > 0.9).all()
    assert (first[3::2, :, 1] > 0.9).all()
    assert len(np.unique(first[:, 0], axis=0)) > 30


def test_genomes_are_shares_in_every_population():
    recorder = Recorder()
    search(recorder, generations=10, scale=1.0)
    genomes = np.concatenate(recorder.populations)
    assert (genomes >= 0).all()
    np.testing.assert_allclose(genomes.sum(axis=2), 1, atol=1e-6)


def test_a_start_is_made_of_shares_first():
    start = np.array([[[2.0, 6, 0, 0], [0, 0, 0, 0], [-1, 3, 1, -5]]])
    recorder = Recorder()
    search(recorder, start, population=2, generations=1)
    expected = [[0.25, 0.75, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0.75, 0.25, 0]]
    np.testing.assert_array_equal(recorder.populations[0][0], expected)


def test_step_sizes_differ_from_genome_to_genome_up_to_the_scale():
    recorder = Recorder(lambda genomes: genomes[:, :, 0])
    search(recorder, np.full((1, 3, 100), 0.01), scale=0.001, generations=1)
    steps = recorder.populations[0][1:].std(axis=2)
    assert 0.0006 < steps.max() < 0.0015
    assert steps.min() < 0.00005


def test_fitness_is_asked_once_a_generation_about_the_whole_population():
    recorder = Recorder()
    search(recorder, generations=7, population=9)
    assert [(population.shape, population.dtype) for population in recorder.populations] == [
        ((9, 12, 4), np.float32)
    ] * 8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (search(seed=seed, generations=10) for seed in (1, 1, 2))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()
    assert first[0].tobytes() != other[0].tobytes()


def test_global_random_states_are_neither_used_nor_touched():
    # The legacy global state is what is watched here, hence the exceptions.
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    first, _ = search(generations=5)
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    random.seed(2)
    assert search(generations=5)[0].tobytes() == first.tobytes()


def test_arguments_are_left_as_they_were():
    start = np.full((2, 12, 4), 5.0, dtype=np.float32)
    search(start=start, generations=3)
    assert (start == 5).all()


def test_one_gene_one_island_and_two_individuals_are_enough():
    genomes, fitness = search(lambda genomes: genomes[:, :, 0], np.ones((1, 1, 1)), population=2, generations=2)
    assert genomes.tolist() == [[1.0]]
    assert fitness.tolist() == [1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": np.ones((12, 4))}, r"start must be .* with S at most 40, but its shape is \(12, 4\)"),
        ({"start": np.ones((41, 12, 4))}, r"S at most 40, but its shape is \(41, 12, 4\)"),
        ({"start": np.ones((0, 12, 4))}, r"start must be .* its shape is \(0, 12, 4\)"),
        ({"start": np.ones((1, 12, 0))}, r"start must be .* its shape is \(1, 12, 0\)"),
        ({"start": np.full((1, 12, 4), np.nan)}, "start must be .* of finite numbers"),
        ({"population": 1}, "population must be at least 2, but it is 1"),
        ({"generations": 0}, "generations must be at least 1, but they are 0"),
        ({"fitness": lambda genomes: genomes[0]}, r"given the shape \(40, 12, 4\), but returned \(12, 4\)"),
        ({"fitness": lambda genomes: concave(genomes).T}, r"given the shape \(40, 12, 4\), but returned \(12, 40\)"),
        ({"fitness": lambda _: 1.0}, r"given the shape \(40, 12, 4\), but returned \(\)"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_reason(options, message):
    with pytest.raises(ValueError, match=message):
        search(**options)
