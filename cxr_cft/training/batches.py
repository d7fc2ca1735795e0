"""Who learns from which views in which step: the same for a seed, however many processes share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class StepBatches(Sampler[list[tuple[int, int]]]):
    """One epoch's batches of (row, augmentation seed) for one process, drawn from (seed, epoch) alone.

    A step takes the next `batch_size` rows of the epoch's order, the last step what is left; a single row that would be
    left, which batch norm may not take, joins the step before. Every process cuts the
    step's rows into processes × parts pieces and takes its own, one piece a batch: together the processes see each row
    once, and what a step learns from does not depend on their number. Where a step has fewer rows than pieces, an
    empty piece is filled by the step's first row, so that all processes pass over the network equally often; `share`
    is then empty, and the filler must not count.

    With `odds` (N,), rows are drawn with these probabilities and with repetition. `epoch` and `begin`, the first step,
    are set before iterating.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        *,
        parts: int = 1,
        process: int = 0,
        processes: int = 1,
        odds: NDArray[np.float64] | None = None,
    ):
        self.rows, self.batch_size, self.seed, self.odds = rows, batch_size, seed, odds
        self.parts, self.process, self.processes = parts, process, processes
        self.steps = -(-rows // batch_size)
        if rows % batch_size == 1 and self.steps > 1:
            self.steps -= 1
        self.begin = 0
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch whose batches come next."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        rng = np.random.default_rng([self.seed, epoch])
        if self.odds is None:
            self._order: NDArray[np.int64] = rng.permutation(self.rows)
        else:
            self._order = rng.choice(self.rows, size=self.rows, p=self.odds)
        self._seeds = rng.integers(2**31, size=self.rows)

    def of_step(self, step: int) -> NDArray[np.int64]:
        """The rows that a step learns from, of all processes."""
        return self._order[self._of_step(step)]

    def seeds_of_step(self, step: int) -> NDArray[np.int64]:
        """Their augmentation seeds."""
        return self._seeds[self._of_step(step)]

    def share(self, step: int, part: int) -> NDArray[np.int64]:
        """The rows of one piece of this process; empty where there are fewer rows than pieces."""
        return self._order[self._positions(step, part)]

    def __len__(self) -> int:
        return (self.steps - self.begin) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.begin, self.steps):
            for part in range(self.parts):
                positions = self._positions(step, part)
                if not len(positions):
                    positions = np.array([step * self.batch_size])
                yield list(zip(self._order[positions].tolist(), self._seeds[positions].tolist(), strict=True))

    def _of_step(self, step: int) -> NDArray[np.int64]:
        stop = self.rows if step == self.steps - 1 else (step + 1) * self.batch_size
        return np.arange(step * self.batch_size, stop)

    def _positions(self, step: int, part: int) -> NDArray[np.int64]:
        positions = self._of_step(step)
        return np.array_split(positions, self.processes * self.parts)[self.process * self.parts + part]


def balanced_odds(targets: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float64]:
    """The probability (N,) of drawing each view so that every category's two classes come about equally often.

    A mixture over categories: one is chosen evenly, then one of its two classes, then one of the views (N) whose
    target in it is of that class and counts. Targets between the classes belong to the nearer one. A view of which
    nothing counts is never drawn, unless nothing counts at all.
    """
    odds = np.zeros(len(targets))
    for rows in (mask * (targets >= 0.5), mask * (targets < 0.5)):
        count = rows.sum(axis=0, dtype=np.float64)
        odds += (rows / np.maximum(count, 1)).sum(axis=1)
    if not odds.any():
        odds += 1.0
    chance: NDArray[np.float64] = odds / odds.sum()
    return chance
