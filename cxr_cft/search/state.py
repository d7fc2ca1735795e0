"""Where a search stands after a generation: all that it takes to go on, and its way to disk and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Arrays = dict[str, NDArray[np.float64] | NDArray[np.uint8]]


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
    """(G,): the best genome so far, the earliest of equals, which the search would return now."""
    history: tuple[float, ...]
    """The best fitness of the starting genomes, then of each generation. It never falls, thanks to the elite."""

    def __post_init__(self) -> None:
        for array in (self.population, self.fitness, self.genome):
            array.setflags(write=False)

    @property
    def leader(self) -> Floats:
        """(G,): the fittest genome of this generation, as fit as `genome` but not always the earliest of equals."""
        leader: Floats = self.population[int(np.argmax(self.fitness))]
        return leader

    @property
    def generations(self) -> int:
        """How many generations were bred so far."""
        return len(self.history) - 1

    @property
    def waited(self) -> int:
        """How many generations have passed since the last improvement."""
        return self.generations - self.history.index(self.history[-1])

    def arrays(self) -> Arrays:
        """All of it as arrays of numbers, for a file of arrays; nothing is lost.

        `population` (P, G), `fitness` (P,), `genome` (G,), `history` (generations + 1,) and `generator`, the bytes of a
        JSON text.
        """
        # Some bit generators hold arrays, and take lists in their place.
        generator = json.dumps(self.generator, default=np.ndarray.tolist).encode()
        return {
            "population": self.population,
            "fitness": self.fitness,
            "generator": np.frombuffer(generator, dtype=np.uint8),
            "genome": self.genome,
            "history": np.array(self.history),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SearchState:
        """The state that gave these arrays; raises ValueError if an array is missing or its shape does not fit."""
        names = ("population", "fitness", "generator", "genome", "history")
        if missing := [name for name in names if name not in arrays]:
            raise ValueError(f"the state of a search lacks {', '.join(missing)}")
        read = {name: np.array(arrays[name]) for name in names}
        population, history = read["population"], read["history"]
        individuals, genes = population.shape if population.ndim == 2 else (0, 0)
        expected = {
            "population": (individuals, genes),
            "fitness": (individuals,),
            "genome": (genes,),
            "history": (history.size,),
        }
        for name, shape in expected.items():
            if read[name].shape != shape or 0 in shape:
                raise ValueError(f"the {name} of a search's state has the shape {read[name].shape}, which does not fit")
        return cls(
            population=population,
            fitness=read["fitness"],
            generator=_generator(read["generator"]),
            genome=read["genome"],
            history=tuple(history.tolist()),
        )


def _generator(text: NDArray[np.uint8]) -> dict[str, Any]:
    try:
        state = json.loads(text.tobytes())
    except ValueError:
        state = None
    if not isinstance(state, dict) or "bit_generator" not in state:
        raise ValueError("the generator of a search's state is not the state of a bit generator")
    return state
