"""Where a search stands after a generation: all that it takes to go on, and its way to disk and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.uint8]]


class Generation(NamedTuple):
    """The best individual of one generation, by fitness."""

    fitness: float
    monitored: float | None
    """What the monitor said of it; None without a monitor."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """A search between two generations, P individuals of G genes. Its arrays cannot be written to."""

    population: Floats
    """(P, G): the genomes of this generation."""
    fitness: Floats
    """(P,): their fitness, so that nothing has to be evaluated anew."""
    generator: Mapping[str, Any]
    """The state of the random generator's bit generator, as numpy gives it."""
    genome: Floats
    """(G,): the best genome so far, which the search would return now."""
    best: Generation
    """What is known of it."""
    leader: Floats
    """(G,): the fittest genome of this generation, which the monitor was asked about already."""
    waited: int
    """How many generations have passed since the last improvement."""
    history: tuple[Generation, ...]
    """The best of the starting genomes, then the best of each generation."""

    def __post_init__(self) -> None:
        for array in (self.population, self.fitness, self.genome, self.leader):
            array.setflags(write=False)

    @property
    def generations(self) -> int:
        """How many generations were bred so far."""
        return len(self.history) - 1

    def arrays(self) -> Arrays:
        """All of it as arrays of numbers, for a file of arrays; nothing is lost.

        `population` (P, G), `fitness` (P,), `genome` (G,), `best` (2,), `leader` (G,), `waited` (1,), `history`
        (generations + 1, 2) and `generator`, the bytes of a JSON text. The two columns are fitness and monitored score,
        nan without a monitor.
        """
        # Some bit generators hold arrays, and take lists in their place.
        generator = json.dumps(self.generator, default=np.ndarray.tolist).encode()
        return {
            "population": self.population,
            "fitness": self.fitness,
            "generator": np.frombuffer(generator, dtype=np.uint8),
            "genome": self.genome,
            "best": _columns([self.best])[0],
            "leader": self.leader,
            "waited": np.array([self.waited], dtype=np.int64),
            "history": _columns(self.history),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SearchState:
        """The state that gave these arrays; raises ValueError if an array is missing or its shape does not fit."""
        names = ("population", "fitness", "generator", "genome", "best", "leader", "waited", "history")
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(f"the state of a search lacks {', '.join(missing)}")
        read = {name: np.array(arrays[name]) for name in names}
        population, history = read["population"], read["history"]
        individuals, genes = population.shape if population.ndim == 2 else (0, 0)
        expected = {
            "population": (individuals, genes),
            "fitness": (individuals,),
            "genome": (genes,),
            "best": (2,),
            "leader": (genes,),
            "waited": (1,),
            "history": (len(history) if history.ndim else 0, 2),
        }
        for name, shape in expected.items():
            if read[name].shape != shape or 0 in shape:
                raise ValueError(f"the {name} of a search's state has the shape {read[name].shape}, which does not fit")
        return cls(
            population=population,
            fitness=read["fitness"],
            generator=_generator(read["generator"]),
            genome=read["genome"],
            best=_generation(read["best"]),
            leader=read["leader"],
            waited=int(read["waited"][0]),
            history=tuple(_generation(row) for row in history),
        )


def _generator(text: NDArray[np.uint8]) -> dict[str, Any]:
    try:
        state = json.loads(text.tobytes())
    except ValueError:
        state = None
    if not isinstance(state, dict) or "bit_generator" not in state:
        raise ValueError("the generator of a search's state is not the state of a bit generator")
    return state


def _columns(generations: Iterable[Generation]) -> Floats:
    """(N, 2) fitness and monitored score; nan can stand for None, as no monitored score is nan."""
    return np.array([[fitness, np.nan if monitored is None else monitored] for fitness, monitored in generations])


def _generation(row: NDArray[Any]) -> Generation:
    fitness, monitored = (float(number) for number in row)
    return Generation(fitness, None if np.isnan(monitored) else monitored)
