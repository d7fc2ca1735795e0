"""What a search is worth on studies that it has not seen: nested cross-validation of every choice that it makes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cxr_cft.data.decode import processors
from cxr_cft.ensemble.blend import weighted
from cxr_cft.ensemble.finders import Found, Rows, find_weights, shares
from cxr_cft.ensemble.problem import CONFIGS, EQUAL, FAMILIES, SHRINKAGE, Config, HeldOut, Problem, Shape
from cxr_cft.ensemble.scales import COMPARABLE, PLAIN
from cxr_cft.metrics.folded import FoldedAuroc
from cxr_cft.progress import SILENT, Progress

Floats = NDArray[np.float64]
Job: TypeAlias = tuple[HeldOut, Shape]
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
    """Equal weights on every aggregation and scale, the default first; empty where there was no choice."""
    shape: Shape
    """The shape to use."""
    unseen: dict[str, Floats]
    """The blend of every finder, shrunk as the other folds say, and of `procedure`: whatever `choose` takes."""
    configs: dict[str, Config]
    """Every finder's shrinkage to use."""
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
    """Choose shape, finder and shrinkage, and judge that choice as well as each finder.

    For every outer fold, the whole choice is made by cross-validation on the other folds, then the weights are found on
    them and judged on that fold. What is to be used at last is chosen by cross-validation on all folds, and its weights
    are found on all studies: there each finder is compared as shrunk for each fold by the others, which inner folds,
    one level deeper, have to do without. Of aggregations, and then of scales unless `scale` is given, the first is
    kept unless equal weights on another are better by `ERRORS` standard errors. A search on all but folds j and k
    serves the outer folds j and k alike, and searches that are in `kept` are not made again.
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
        self.problem, self.scale, self.kept, self.progress = problem, scale, kept, progress
        self.tried = list(product(problem.scores, [scale] if scale else PLAIN))
        self.numbers = problem.numbers

    def judgement(self) -> Judgement:
        problem = self.problem
        tables = self._equal_on_scales()
        shape_of = {k: self._shape(tables, self._pairs(k)) for k in self.numbers}
        singles = [((k,), k) for k in self.numbers]
        shape = self._shape(tables, singles)
        wanted = [((), shape), *(((k,), shape_of[k]) for k in self.numbers)]
        if self.problem.can_choose:
            wanted += [(held_out, shape_of[k]) for k in self.numbers for held_out, _ in self._pairs(k)]
        self.blends = self._search(list(dict.fromkeys(wanted)))

        # Every configuration, each fold by a search on the others; then what the others would have chosen for it.
        flat = {config: self._empty() for config in CONFIGS}
        unseen = {name: self._empty() for name in (EQUAL, *FAMILIES, "procedure")}
        for k in self.numbers:
            rows, blends = problem.folds == k, self.blends[(k,), shape_of[k]]
            for config in CONFIGS:
                flat[config][rows] = blends[config]
            for name, config in self._taken(k, shape_of[k]).items():
                unseen[name][rows] = blends[config]
        table = problem.judge(np.stack(list(flat.values())), problem.folds, to_choose=True)
        configs = self._configs(table)
        names = (EQUAL, *FAMILIES)
        chosen = EQUAL
        if self.problem.can_choose:
            table = problem.judge(np.stack([unseen[name] for name in names]), problem.folds, to_choose=True)
            chosen = choose(table, problem.patients, names)
        tried = dict(zip(self.tried, self._assembled(tables, singles), strict=True)) if tables else {}
        ablation = self._ablation(configs[chosen], shape_of)
        return Judgement(tried, shape, unseen, configs, chosen, ablation, self.kept[_key((), shape)])

    def _taken(self, k: int, shape: Shape) -> dict[str, Config]:
        """What the folds other than `k` take for it: each finder's shrinkage, and the finder."""
        problem = self.problem
        if not problem.can_choose:
            return {**self._configs(None), "procedure": Config(EQUAL)}
        inner = {config: self._empty() for config in CONFIGS}
        for held_out, j in self._pairs(k):
            inside = problem.folds[np.isin(problem.folds, held_out)] == j
            for config, blend in self.blends[held_out, shape].items():
                inner[config][problem.folds == j] = blend[inside]
        folds = np.where(problem.folds == k, -1, problem.folds)
        table = problem.judge(np.stack(list(inner.values())), folds, to_choose=True)
        taken = self._configs(table)
        models = [CONFIGS.index(config) for config in taken.values()]
        few = FoldedAuroc(table.value[models], table.influence[models])
        return {**taken, "procedure": taken[choose(few, problem.patients, tuple(taken))]}

    def _configs(self, table: FoldedAuroc | None) -> dict[str, Config]:
        """Every finder's shrinkage by what a table of all configurations says; the strongest without enough to say."""
        if table is None or not self.problem.can_choose:
            return {EQUAL: Config(EQUAL), **{name: Config(name, grid[-1]) for name, grid in FAMILIES.items()}}
        return {EQUAL: Config(EQUAL), **{name: _best(name, table) for name in FAMILIES}}

    def _pairs(self, k: int) -> list[tuple[HeldOut, int]]:
        """For every fold j but k: what a search that knows neither leaves out, and j."""
        return [((min(j, k), max(j, k)), j) for j in self.numbers if j != k]

    def _empty(self) -> Floats:
        return np.full(self.problem.labels.shape, np.nan)

    # Shape

    def _equal_on_scales(self) -> dict[HeldOut, Floats]:
        """Equal weights' blends (tried, S, C) by the folds that the scales have not seen, filled on these alone."""
        if len(self.tried) == 1:
            return {}
        problem = self.problem
        wanted: list[HeldOut] = [(k,) for k in self.numbers]
        wanted += list(combinations(self.numbers, 2)) if self.problem.can_choose else []

        def blend(held_out: HeldOut) -> Floats:
            rows, unseen = problem.learnt(held_out), np.isin(problem.folds, held_out)
            return np.stack(
                [weighted(problem.rescaled(*each, rows)[0][:, unseen], problem.equal) for each in self.tried]
            )

        with closing(_parallel(blend, wanted)) as done:
            tracked = self.progress.track(done, "comparing scales", len(wanted), "folds")
            return dict(zip(wanted, tracked, strict=True))

    def _shape(self, tables: Mapping[HeldOut, Floats], parts: Sequence[tuple[HeldOut, int]]) -> Shape:
        """What equal weights do best on by what the folds of `parts` say; the first of each in case of doubt."""
        how, kind = self.tried[0]
        if not tables or not self.problem.can_choose:
            return Shape(how, kind, kind)
        problem = self.problem
        judged = np.isin(problem.folds, [fold for _, fold in parts])
        table = problem.judge(self._assembled(tables, parts), np.where(judged, problem.folds, -1), to_choose=True)

        def best(options: Sequence[tuple[str, str]]) -> tuple[str, str]:
            models = [self.tried.index(option) for option in options]
            gains = {model: float(table.value[model] - table.value[models[0]]) for model in models}
            better = [m for m in models if gains[m] > ERRORS * table.error(m, problem.patients, models[0]) + 1e-12]
            return self.tried[max(better, key=gains.__getitem__, default=models[0])]

        how, _ = best([(each, kind) for each in problem.scores])
        if self.scale:
            return Shape(how, kind, kind)
        return Shape(how, best([(how, each) for each in PLAIN])[1], best([(how, each) for each in COMPARABLE])[1])

    def _assembled(self, tables: Mapping[HeldOut, Floats], parts: Sequence[tuple[HeldOut, int]]) -> Floats:
        """Blends (tried, S, C) of the studies in the folds of `parts`, each from its own table."""
        folds = self.problem.folds
        found = np.full((len(self.tried), *self.problem.labels.shape), np.nan)
        for held_out, fold in parts:
            inside = folds[np.isin(folds, held_out)] == fold
            found[:, folds == fold] = tables[held_out][:, inside]
        return found

    # Searches

    def _search(self, wanted: Sequence[Job]) -> dict[Job, dict[Config, Floats]]:
        """Make the searches that are not there yet; all blends of the studies that each has not seen."""
        problem = self.problem
        there = sum(_key(*job) in self.kept for job in wanted)
        if there:
            self.progress.note(f"{there} of {len(wanted)} searches were made before; going on with the others")

        def search(job: Job) -> tuple[Found, dict[Config, Floats]]:
            held_out, shape = job
            rows, unseen = problem.learnt(held_out), np.isin(problem.folds, held_out)
            z, _ = problem.rescaled(shape.aggregation, shape.searched, rows)
            found = self.kept.get(_key(*job))
            if found is None:
                rng = np.random.default_rng([problem.seed, 1, len(held_out), *held_out])
                found = find_weights(z, problem.labels, problem.patients, rows, problem.scored, rng)
            blends = {}
            for kind in {config.scale(shape) for config in CONFIGS} if unseen.any() else ():
                on = z if kind == shape.searched else problem.rescaled(shape.aggregation, kind, rows)[0]
                part = on[:, unseen]
                for config in CONFIGS:
                    if config.scale(shape) == kind:
                        blends[config] = weighted(part, problem.weights(config, found))
            return found, blends

        blends = {}
        with closing(_parallel(search, wanted)) as done:
            tracked = self.progress.track(done, "searching weights", len(wanted), "searches")
            for job, (found, blends[job]) in zip(wanted, tracked, strict=True):
                if _key(*job) not in self.kept:
                    self.kept[_key(*job)] = found
        return blends

    def _ablation(self, config: Config, shape_of: Mapping[int, Shape]) -> Floats:
        """The held-out blend, and the same without each member, whose weight the others share (1 + M, S, C)."""
        problem = self.problem
        members = len(problem.there)
        found = np.full((1 + members, *problem.labels.shape), np.nan)
        for k in self.numbers:
            rows = np.flatnonzero(problem.folds == k)
            shape = shape_of[k]
            z = problem.rescaled(shape.aggregation, config.scale(shape), problem.learnt((k,)))[0][:, rows]
            weights = problem.weights(config, self.kept[_key((k,), shape)])
            found[0, rows] = weighted(z, weights)
            for m in range(members if members > 1 else 0):
                others = problem.there & (np.arange(members) != m)[:, None]
                found[1 + m, rows] = weighted(z, shares(weights, others))
        return found


def _best(finder: str, table: FoldedAuroc) -> Config:
    """A finder's shrinkage of the highest value; the greatest of equals."""
    own = [model for model, config in enumerate(CONFIGS) if config.finder == finder]
    return CONFIGS[max(own, key=lambda model: (table.value[model], CONFIGS[model].shrinkage))]


def _key(held_out: HeldOut, shape: Shape) -> str:
    """What a search hangs on: equal weights' own scale is not part of it."""
    return "/".join([shape.aggregation, shape.searched, *map(str, held_out)])


def _parallel(work: Callable[[T], R], items: Sequence[T]) -> Generator[R, None, None]:
    """`work` of every item in order, on all processors; each item's work is on one."""
    with threadpool_limits(1), ThreadPoolExecutor(processors()) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has not begun would be done first otherwise
            raise
