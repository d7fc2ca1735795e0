"""What a search is worth on studies that it has not seen: nested cross-validation of every choice that it makes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cxr_cft.data.processors import processors
from cxr_cft.ensemble.blend import weighted
from cxr_cft.ensemble.finders import Found, Rows, find_weights, shares
from cxr_cft.ensemble.problem import EQUAL, FAMILIES, SHRINKAGE, Config, HeldOut, Problem, configurations
from cxr_cft.metrics.folded import FoldedAuroc
from cxr_cft.progress import SILENT, Progress

Floats = NDArray[np.float64]
Job: TypeAlias = tuple[HeldOut, str]
T = TypeVar("T")
R = TypeVar("R")

ERRORS, UNSHRUNK_ERRORS = 1.5, 2.0
"""By how many standard errors a candidate has to beat what it would replace: one that is shrunk towards equal weights,
and one that is not. On made members (five kinds, 100 and 250 studies, 20 draws each) 1 took what was no gain in a tenth
to a fifth of the draws of equally good ones, and 2 for all missed gains of 0.05. With 1.5 for all, six members of noise
on 40 to 160 studies were left at equal weights in 37 of 48 draws, with these in 40 (measured)."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What nested cross-validation says.

    Every blend (S, C) in it is of weights and scales that were found without the study. Of all studies it is only known
    whether a member's scores are probabilities, and how near to 0 and 1 it writes them.
    """

    tried: dict[tuple[str, str], Floats]
    """Equal weights by aggregation, then by scale, the default of both first; empty where there was no choice."""
    aggregation: str
    """How views are to be joined."""
    unseen: dict[str, Floats]
    """The blend of every finder, as the other folds configure it, and of `procedure`: whatever `choose` takes."""
    configs: dict[str, Config]
    """Every finder's scale and shrinkage to use."""
    chosen: str
    """The finder to use."""
    ablation: Floats
    """(1 + M, S, C): the blend of what is to be used, and the same without each member."""
    found: Found
    """The weights that were found on all studies."""


def judge(
    problem: Problem,
    scale: str | None = None,
    kept: MutableMapping[str, Found] | None = None,
    progress: Progress = SILENT,
) -> Judgement:
    """Choose aggregation, finder, scale and shrinkage, and judge that choice as well as each finder.

    For every outer fold, the whole choice is made by cross-validation on the other folds, then the weights are found on
    them and judged on that fold. What is to be used at last is chosen by cross-validation on all folds, and its weights
    are found on all studies: there each finder is compared as the other folds configure it for each fold, which inner
    folds, one level deeper, have to do without. The first aggregation is kept unless equal weights on another are
    better by `ERRORS` standard errors, and a finder's first scale unless its own weights are on another. A search on
    all but folds j and k serves the outer folds j and k alike, and searches that are in `kept` are not made again.
    """
    return _Nested(problem, scale, {} if kept is None else kept, progress).judgement()


def choose(table: FoldedAuroc, patients: Rows, names: Sequence[str]) -> str:
    """The candidate to use: each in turn replaces the choice so far if it is better by enough standard errors.

    How many are enough, `ERRORS` and `UNSHRUNK_ERRORS` say; the error is that of the difference, with patients kept
    whole. `names` are those of the table's models, in the order in which they are asked.
    """
    chosen = 0
    for model in range(1, len(names)):
        gain = table.value[model] - table.value[chosen]
        enough = ERRORS if FAMILIES[names[model]] == SHRINKAGE else UNSHRUNK_ERRORS
        if gain > enough * table.error(model, patients, chosen) + 1e-12:  # a gain of nothing is none
            chosen = model
    return names[chosen]


class _Nested:
    def __init__(
        self, problem: Problem, scale: str | None, kept: MutableMapping[str, Found], progress: Progress
    ) -> None:
        self.problem, self.kept, self.progress = problem, kept, progress
        self.configs = configurations(scale)
        self.scale = self.configs[0].scale  # on which weights are searched
        self.aggregations = list(problem.scores)
        self.numbers = problem.numbers

    def judgement(self) -> Judgement:
        problem = self.problem
        singles = [((k,), k) for k in self.numbers]
        tables = self._equal_by_aggregation()
        how_of = {k: self._aggregation(tables, self._pairs(k)) for k in self.numbers}
        how = self._aggregation(tables, singles)
        wanted = [((), how), *(((k,), how_of[k]) for k in self.numbers)]
        if problem.can_choose:
            wanted += [(held_out, how_of[k]) for k in self.numbers for held_out, _ in self._pairs(k)]
        blends = self._search(list(dict.fromkeys(wanted)))

        # Every configuration, each fold by a search on the others; then what the others would have chosen for it.
        flat = np.full((len(self.configs), *problem.labels.shape), np.nan)
        names = (EQUAL, *FAMILIES)
        unseen = {name: np.full(problem.labels.shape, np.nan) for name in (*names, "procedure")}
        for k in self.numbers:
            rows = problem.folds == k
            flat[:, rows] = blends[(k,), how_of[k]]
            for name, config in self._taken(k, how_of[k], blends).items():
                unseen[name][rows] = blends[(k,), how_of[k]][self.configs.index(config)]
        configs, chosen = self._configured(None), EQUAL
        if problem.can_choose:
            configs = self._configured(problem.judge(flat, problem.folds, to_choose=True))
            table = problem.judge(np.stack([unseen[name] for name in names]), problem.folds, to_choose=True)
            chosen = choose(table, problem.patients, names)
        by_how = self._assembled(tables, singles) if tables else flat[:1]
        tried = dict(zip(((each, self.scale) for each in self.aggregations), by_how, strict=True))
        tried |= {(how, c.scale): flat[i] for i, c in enumerate(self.configs) if c.finder == EQUAL and i}
        ablation = self._ablation(configs[chosen], how_of)
        found = self.kept[self._key((), how)]
        return Judgement(tried if len(tried) > 1 else {}, how, unseen, configs, chosen, ablation, found)

    def _taken(self, k: int, how: str, blends: Mapping[Job, Floats]) -> dict[str, Config]:
        """What the folds other than `k` take for it: each finder's configuration, and the finder."""
        problem = self.problem
        if not problem.can_choose:
            configs = self._configured(None)
            return {**configs, "procedure": configs[EQUAL]}
        inner = np.full((len(self.configs), *problem.labels.shape), np.nan)
        for held_out, j in self._pairs(k):
            inside = problem.folds[np.isin(problem.folds, held_out)] == j
            inner[:, problem.folds == j] = blends[held_out, how][:, inside]
        table = problem.judge(inner, np.where(problem.folds == k, -1, problem.folds), to_choose=True)
        taken = self._configured(table)
        models = [self.configs.index(config) for config in taken.values()]
        few = FoldedAuroc(table.value[models], table.influence[models])
        return {**taken, "procedure": taken[choose(few, problem.patients, tuple(taken))]}

    def _configured(self, table: FoldedAuroc | None) -> dict[str, Config]:
        """Every finder's scale and shrinkage by what a table of all configurations says.

        Without enough to say, the default scale and the strongest shrinkage.
        """
        found = {}
        for finder in (EQUAL, *FAMILIES):
            own = [model for model, config in enumerate(self.configs) if config.finder == finder]
            scale, least = self.configs[own[0]].scale, self.configs[own[0]].shrinkage
            if table is not None:
                plain = [model for model in own if self.configs[model].shrinkage == least]
                scale = self.configs[_better(table, plain, self.problem.patients)].scale
            grid = [model for model in own if self.configs[model].scale == scale]
            worth = table.value if table is not None else np.zeros(len(self.configs))
            found[finder] = self.configs[max(grid, key=lambda model: (worth[model], self.configs[model].shrinkage))]
        return found

    def _pairs(self, k: int) -> list[tuple[HeldOut, int]]:
        """For every fold j but k: what a search that knows neither leaves out, and j."""
        return [((min(j, k), max(j, k)), j) for j in self.numbers if j != k]

    # Aggregation

    def _equal_by_aggregation(self) -> dict[HeldOut, Floats]:
        """Equal weights' blends (aggregations, s, C) of the s studies that the scale has not seen, by their folds."""
        if len(self.aggregations) == 1:
            return {}
        problem = self.problem
        wanted: list[HeldOut] = [(k,) for k in self.numbers]
        wanted += list(combinations(self.numbers, 2)) if problem.can_choose else []

        def blend(held_out: HeldOut) -> Floats:
            rows, unseen = problem.learnt(held_out), np.isin(problem.folds, held_out)
            scores = [problem.rescaled(how, self.scale, rows)[0][:, unseen] for how in self.aggregations]
            return np.stack([weighted(part, problem.equal) for part in scores])

        with closing(_parallel(blend, wanted)) as done:
            tracked = self.progress.track(done, "comparing ways to join views", len(wanted), "folds")
            return dict(zip(wanted, tracked, strict=True))

    def _aggregation(self, tables: Mapping[HeldOut, Floats], parts: Sequence[tuple[HeldOut, int]]) -> str:
        """What equal weights do best on by what the folds of `parts` say; the first in case of doubt."""
        problem = self.problem
        if not tables or not problem.can_choose:
            return self.aggregations[0]
        judged = np.isin(problem.folds, [fold for _, fold in parts])
        table = problem.judge(self._assembled(tables, parts), np.where(judged, problem.folds, -1), to_choose=True)
        return self.aggregations[_better(table, range(len(self.aggregations)), problem.patients)]

    def _assembled(self, tables: Mapping[HeldOut, Floats], parts: Sequence[tuple[HeldOut, int]]) -> Floats:
        """Blends (aggregations, S, C) of the studies in the folds of `parts`, each from its own table."""
        folds = self.problem.folds
        found = np.full((len(self.aggregations), *self.problem.labels.shape), np.nan)
        for held_out, fold in parts:
            inside = folds[np.isin(folds, held_out)] == fold
            found[:, folds == fold] = tables[held_out][:, inside]
        return found

    # Searches

    def _search(self, wanted: Sequence[Job]) -> dict[Job, Floats]:
        """Make the searches that are not there yet; all blends (configurations, s, C) of what each has not seen."""
        problem = self.problem
        there = sum(self._key(*job) in self.kept for job in wanted)
        if there:
            self.progress.note(f"{there} of {len(wanted)} searches were made before; going on with the others")

        def search(job: Job) -> tuple[Found, Floats]:
            held_out, how = job
            rows, unseen = problem.learnt(held_out), np.isin(problem.folds, held_out)
            z, _ = problem.rescaled(how, self.scale, rows)
            found = self.kept.get(self._key(*job))
            if found is None:
                rng = np.random.default_rng([problem.seed, 1, len(held_out), *held_out])
                found = find_weights(z, problem.labels, problem.patients, rows, problem.scored, rng)
            blends = np.full((len(self.configs), int(unseen.sum()), problem.labels.shape[1]), np.nan)
            for kind in {config.scale for config in self.configs} if unseen.any() else ():
                part = (z if kind == self.scale else problem.rescaled(how, kind, rows)[0])[:, unseen]
                for model, config in enumerate(self.configs):
                    if config.scale == kind:
                        blends[model] = weighted(part, problem.weights(config, found))
            return found, blends

        blends = {}
        with closing(_parallel(search, wanted)) as done:
            tracked = self.progress.track(done, "searching weights", len(wanted), "searches")
            for job, (found, blends[job]) in zip(wanted, tracked, strict=True):
                if self._key(*job) not in self.kept:
                    self.kept[self._key(*job)] = found
        return blends

    def _ablation(self, config: Config, how_of: Mapping[int, str]) -> Floats:
        """The held-out blend, and the same without each member, whose weight the others share (1 + M, S, C)."""
        problem = self.problem
        members = len(problem.there)
        found = np.full((1 + members, *problem.labels.shape), np.nan)
        for k in self.numbers:
            rows = np.flatnonzero(problem.folds == k)
            z = problem.rescaled(how_of[k], config.scale, problem.learnt((k,)))[0][:, rows]
            weights = problem.weights(config, self.kept[self._key((k,), how_of[k])])
            found[0, rows] = weighted(z, weights)
            for m in range(members if members > 1 else 0):
                others = problem.there & (np.arange(members) != m)[:, None]
                found[1 + m, rows] = weighted(z, shares(weights, others))
        return found

    def _key(self, held_out: HeldOut, how: str) -> str:
        return "/".join([how, self.scale, *map(str, held_out)])


def _better(table: FoldedAuroc, models: Sequence[int], patients: Rows) -> int:
    """The best of those models that are better than the first by `ERRORS` standard errors; the first if none is."""
    first, *others = models
    gains = {model: float(table.value[model] - table.value[first]) for model in others}
    better = [model for model in others if gains[model] > ERRORS * table.error(model, patients, first) + 1e-12]
    return max(better, key=gains.__getitem__, default=first)


def _parallel(work: Callable[[T], R], items: Sequence[T]) -> Generator[R, None, None]:
    """`work` of every item in order, on all processors; each item's work is on one."""
    with threadpool_limits(1), ThreadPoolExecutor(processors()) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has not begun would be done first otherwise
            raise
