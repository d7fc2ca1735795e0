import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.search import SearchState, maximise

TARGET = np.linspace(-1, 1, 3)


class InterruptionError(Exception):
    """What ends a search before its time."""


def concave(genomes):
    return -((genomes - TARGET) ** 2).sum(axis=1)


class Search:
    """A search that keeps every state and everything that its fitness was asked about."""

    def __init__(self, rng, **options):
        self.rng = rng
        self.options = {"scale": 0.3, "population": 6, "generations": 9, "patience": 4} | options
        self.states, self.asked = [], []

    def run(self, *, stop_at_state=None, stop_at_call=None, **more):
        def fitness(genomes):
            if len(self.asked) == stop_at_call:
                raise InterruptionError
            self.asked.append(genomes.tobytes())
            return concave(genomes)

        def checkpoint(state):
            self.states.append(state)
            if len(self.states) == stop_at_state:
                raise InterruptionError

        options = {"start": np.zeros(3), "checkpoint": checkpoint} | self.options | more
        return maximise(fitness, options.pop("start"), rng=self.rng, **options)


def stored(tmp_path, state):
    """The state after its way to disk and back."""
    np.savez(tmp_path / "state.npz", **state.arrays())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as arrays:
        return SearchState.from_arrays(arrays)


def content(state):
    """Everything in a state, comparable."""
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.arrays().items()}


def same(first, second):
    return (
        first.genome.tobytes() == second.genome.tobytes()
        and first.history == second.history
        and (first.fitness, first.generations) == (second.fitness, second.generations)
    )


@given(data=st.data(), seed=st.integers(0, 2**32), patience=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_interrupted_at_any_moment_and_resumed_from_disk_it_ends_with_the_same_bytes(
    tmp_path_factory, data, seed, patience
):
    whole = Search(np.random.default_rng(seed), patience=patience)
    result = whole.run()
    moment = data.draw(st.integers(1, result.generations), label="moment")
    where = data.draw(st.sampled_from(["stop_at_state", "stop_at_call"]), label="where")

    interrupted = Search(np.random.default_rng(seed), patience=patience)
    with pytest.raises(InterruptionError):
        interrupted.run(**{where: min(moment, len(whole.asked) - 1) if where == "stop_at_call" else moment})
    state = stored(tmp_path_factory.mktemp("search"), interrupted.states[-1]) if interrupted.states else None
    # After an interruption before the first generation there is nothing to resume from but the seed.
    resumed = Search(np.random.default_rng(seed if state is None else seed + 1), patience=patience)

    assert same(resumed.run(resume=state), result)
    assert [*map(content, interrupted.states), *map(content, resumed.states)] == [*map(content, whole.states)]
    if state is not None:
        assert interrupted.asked + resumed.asked == whole.asked
    assert resumed.rng.random() == whole.rng.random()


@pytest.mark.parametrize("kind", [np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_bit_generator_of_numpy_is_resumed(tmp_path, kind):
    whole = Search(np.random.Generator(kind(1)))
    result = whole.run()
    resumed = Search(np.random.Generator(kind(2)))
    assert same(resumed.run(resume=stored(tmp_path, whole.states[2])), result)
    assert content(resumed.states[-1]) == content(whole.states[-1])


def test_a_search_that_has_ended_returns_its_result_at_once():
    for options in ({"generations": 3, "patience": 50}, {"start": TARGET, "patience": 2}):
        whole = Search(np.random.default_rng(0), **options)
        result = whole.run()
        again = Search(np.random.default_rng(1), **options)
        assert same(again.run(resume=whole.states[-1]), result)
        assert not again.asked
        assert not again.states


def test_more_generations_continue_as_if_they_had_been_planned():
    long = Search(np.random.default_rng(0), generations=20, patience=20)
    expected = long.run()
    short = Search(np.random.default_rng(0), generations=5, patience=20)
    short.run()
    resumed = Search(np.random.default_rng(1), generations=20, patience=20)
    assert same(resumed.run(resume=short.states[-1]), expected)


def test_fewer_generations_than_were_bred_return_what_was_found():
    whole = Search(np.random.default_rng(0), patience=50)
    result = whole.run()
    assert same(Search(np.random.default_rng(1), generations=2).run(resume=whole.states[-1]), result)


def test_a_checkpoint_follows_every_generation_and_changes_nothing():
    watched = Search(np.random.default_rng(0), patience=50)
    result = watched.run()
    assert [state.generations for state in watched.states] == list(range(1, 10))
    assert [state.history for state in watched.states] == [result.history[: n + 2] for n in range(9)]
    assert same(Search(np.random.default_rng(0), patience=50).run(checkpoint=None), result)


def test_a_state_describes_its_generation():
    search = Search(np.random.default_rng(0), patience=50)
    search.run()
    for state in search.states:
        np.testing.assert_array_equal(state.fitness, concave(state.population))
        np.testing.assert_array_equal(state.leader, state.population[state.fitness.argmax()])
        assert state.history[-1] == state.fitness.max() == concave(state.genome[None]).item()
        assert state.waited == sum(best == state.history[-1] for best in state.history) - 1


def test_states_that_are_kept_are_not_overwritten_by_later_generations():
    kept, written = [], []
    search = Search(np.random.default_rng(0))
    search.run(checkpoint=lambda state: (kept.append(state), written.append(content(state))))
    assert [*map(content, kept)] == written
    with pytest.raises(ValueError, match="read-only"):
        kept[0].population[0] = 0


def test_an_interruption_by_the_keyboard_is_resumed_too():
    def interrupted(state):
        states.append(state)
        raise KeyboardInterrupt

    states = []
    with pytest.raises(KeyboardInterrupt):
        Search(np.random.default_rng(0)).run(checkpoint=interrupted)
    resumed = Search(np.random.default_rng(1)).run(resume=states[0])
    assert same(resumed, Search(np.random.default_rng(0)).run())


def test_infinite_fitness_survives_the_disk(tmp_path):
    states = []
    maximise(
        lambda genomes: np.full(len(genomes), np.nan),
        np.zeros(2),
        scale=1.0,
        rng=np.random.default_rng(0),
        generations=1,
        checkpoint=states.append,
    )
    state = stored(tmp_path, states[0])
    assert state.history == (-np.inf, -np.inf)
    assert content(state) == content(states[0])


@pytest.fixture
def state():
    search = Search(np.random.default_rng(0))
    search.run()
    return search.states[1]


@pytest.mark.parametrize(
    ("rng", "options", "message"),
    [
        (np.random.default_rng(0), {"population": 7}, r"shape \(6, 3\), but this search's is \(7, 3\)"),
        (np.random.default_rng(0), {"start": np.zeros(4)}, r"shape \(6, 3\), but this search's is \(6, 4\)"),
        (np.random.Generator(np.random.MT19937(0)), {}, "a PCG64 random generator, but rng is a MT19937"),
    ],
)
def test_the_state_of_another_search_is_refused_and_the_generator_left_alone(state, rng, options, message):
    before = str(rng.bit_generator.state)
    with pytest.raises(ValueError, match=message):
        Search(rng, **options).run(resume=state)
    assert str(rng.bit_generator.state) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genome": None, "history": None}, "lacks genome, history"),
        ({"population": np.zeros(3)}, r"population of a search's state has the shape \(3,\)"),
        ({"fitness": np.zeros(5)}, r"fitness of a search's state has the shape \(5,\)"),
        ({"genome": np.zeros(4)}, r"genome of a search's state has the shape \(4,\)"),
        ({"history": np.zeros(0)}, r"history of a search's state has the shape \(0,\)"),
        ({"history": np.zeros((3, 2))}, r"history of a search's state has the shape \(3, 2\)"),
        ({"generator": np.frombuffer(b"{}", dtype=np.uint8)}, "not the state of a bit generator"),
        ({"generator": np.frombuffer(b"no", dtype=np.uint8)}, "not the state of a bit generator"),
    ],
)
def test_arrays_that_are_no_state_are_refused(state, change, message):
    arrays = {name: array for name, array in (state.arrays() | change).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        SearchState.from_arrays(arrays)
