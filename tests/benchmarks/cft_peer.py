"""CFT of one category against the authors' own library, mlcpl: seconds, and held-out AUROC over time.

Pneumothorax's label rates on 223,414 × 1,024 made features: about 76,000 known labels, 234 validation rows that choose,
20,000 others that report. The same rows for both; mlcpl with its published settings and its own metric, both stopped by
their own rule. A step is one of the loop; what comes before the first (for us, reading the rows and finding the
directions) is in the seconds alone. The genetic algorithms are run to their end on a quarter of the rows (mlcpl's takes
half an hour on all of them) and timed over 20 generations on all. Three seeds.
"""

import contextlib
import io
import time
from dataclasses import replace

import numpy as np
import torch

from cxr_cft.cft import Options, category, fine_tune_heads, genetic, solver
from cxr_cft.metrics import auroc
from tests.benchmarks.planted import planted
from tests.benchmarks.table import show, spread

SEEDS = range(3)
NUMBER = 9  # Pneumothorax
MOMENTS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200)  # seconds of the curve


class Watch:
    """Every head that a method tried, with the seconds that had passed; noting one is not counted."""

    def __init__(self):
        self.begin, self.paused, self.seen = time.perf_counter(), 0.0, []

    def note(self, weights):
        now = time.perf_counter()
        self.seen.append((now - self.begin - self.paused, np.array(weights, dtype=np.float32)))
        self.paused += time.perf_counter() - now

    def seconds(self):
        return time.perf_counter() - self.begin - self.paused


@contextlib.contextmanager
def replaced(*places):
    """Other functions in the places of some, (owner, name, what to make of the old one), for as long as it lasts."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for (owner, name, make), (_, _, old) in zip(places, before, strict=True):
        setattr(owner, name, make(old))
    try:
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)


def ours(method, data, seed, generations=None):
    """(weight (D,), watch, seconds, steps, seconds a step); a step of bce is one for all pulls together."""
    watch, posed, spaces, steps = Watch(), [], [], []
    options = Options() if generations is None else Options(generations=generations, patience=generations)

    def standardise(old):
        def new(*arguments):
            posed.append(old(*arguments))
            return posed[0]

        return new

    def step(old):
        def new(search):
            begin = time.perf_counter()
            went_on = old(search)
            steps.append(time.perf_counter() - begin)
            watch.note(posed[0].heads(search.genes.double().numpy())[0])
            return went_on

        return new

    def see(old):
        def new(leaders, state):
            watch.note(posed[0].heads(spaces[0].genes(state.leader[None].copy()))[0])
            return old(leaders, state)

        return new

    def space(old):
        def new(problem):
            spaces.append(old(problem))
            return spaces[0]

        return new

    def maximise(old):
        def new(*arguments, **settings):
            begin = watch.seconds()
            found = old(*arguments, **settings)
            steps.extend([(watch.seconds() - begin) / found.generations] * found.generations)
            return found

        return new

    places = [(category, "standardise", standardise)]
    if method == "bce":
        places.append((solver._Search, "step", step))
    else:
        places += [(genetic._Space, "of", space), (genetic._Leaders, "see", see), (genetic, "maximise", maximise)]
    with replaced(*places):
        watch.begin = time.perf_counter()
        result = fine_tune_heads(
            data.weight, data.bias, data.train, data.valid, methods=(method,), seed=seed, options=options
        )
        end = watch.seconds()
    watch.seen.append((end, result.weight))
    return result.weight[0], watch, end, len(steps), sum(steps) / len(steps)


def theirs(method, data, seed, generations=None):
    from mlcpl.cft.core import finetune_head
    from mlcpl.cft.optimization_method import BP, GAForLinear
    from mlcpl.metrics import partial_multilabel_auroc

    torch.manual_seed(seed)
    linear = torch.nn.Linear(data.weight.shape[1], 1)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(data.weight))
        linear.bias.copy_(torch.from_numpy(data.bias))
    if method == "bce":
        adam = {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"lr": 1e-4}}
        optimizer = BP(device="cpu", loss_fn=torch.nn.BCEWithLogitsLoss(), **adam)
    else:
        optimizer = GAForLinear(device="cpu", metric=partial_multilabel_auroc)
    watch, step = Watch(), optimizer.step

    def stepped(*arguments):
        told = step(*arguments)
        watch.note(optimizer.head.weight.detach().numpy())
        return told

    optimizer.step = stepped
    parts = [tuple(torch.from_numpy(array) for array in part) for part in (data.train, data.valid)]
    with contextlib.redirect_stdout(io.StringIO()):
        watch.begin = time.perf_counter()
        tuned, _ = finetune_head(
            linear,
            training_data=parts[0],
            validation_data=parts[1],
            optimizer=optimizer,
            epochs=generations or 5_000,
            early_stopping=300,
            validation_metric=partial_multilabel_auroc,
            device="cpu",
        )
    end = watch.seconds()
    watch.seen.append((end, tuned.weight.detach().numpy()))
    steps = len(watch.seen) - 1
    return tuned.weight.detach().numpy()[0], watch, end, steps, end / steps


def curve(watch, data):
    """Held-out AUROC of the head that validation liked best until each moment; of the one kept, once it has ended."""
    found, best, heads = {}, -1.0, data.weight
    moments, seen = list(MOMENTS), list(watch.seen)
    while seen and moments:
        if seen[0][0] > moments[0]:
            found[moments.pop(0)] = _held_out(heads, data)
            continue
        _, weights = seen.pop(0)
        scores = auroc(data.valid[1][:, 0], data.valid[0] @ weights.T)
        if not seen:
            heads = weights
        elif scores.max() > best:
            best, heads = scores.max(), weights[[int(scores.argmax())]]
    return found | {moment: _held_out(heads, data) for moment in moments[:1]}


def _held_out(weights, data):
    return float(auroc(data.test[1][:, 0], data.test[0] @ weights[0]))


def main():
    results, curves, known, before = {}, {}, {}, {}
    for seed in SEEDS:
        everything = _one(planted(seed))
        quarter = replace(everything, train=tuple(part[: len(part) // 4] for part in everything.train))
        for method, rows, data, generations in (
            ("bce", "all", everything, None),
            ("ga", "all", everything, 20),
            ("ga", "a quarter", quarter, None),
        ):
            known.setdefault(rows, []).append(int(np.isfinite(data.train[1]).sum()))
            before.setdefault(rows, []).append(_held_out(data.weight, data))
            for name, tune in (("cxr-cft", ours), ("mlcpl", theirs)):
                weight, watch, end, steps, each = tune(method, data, seed, generations)
                reached = _held_out(weight[None], data)
                print(f"seed {seed}, {method}, {rows}, {name}: {end:.1f} s, {steps} steps, {reached:.4f}", flush=True)
                key = method if generations is None else f"{method}, {generations} generations", rows, name
                results.setdefault(key, []).append((end, steps, each, reached))
                if generations is None:
                    curves.setdefault(key, []).append(curve(watch, data))
    print()
    rows = []
    for (method, part, name), found in results.items():
        seconds, steps, each, reached = zip(*found, strict=True)
        rows.append([method, f"{min(known[part]):,} to {max(known[part]):,}", name, spread(seconds), spread(steps, 0)])
        rows[-1] += [spread(np.multiply(each, 1000), 1), spread(reached, 4)]
    show(["method", "known labels", "library", "seconds", "steps", "ms a step", "held-out AUROC"], rows)
    print(f"\nheld-out AUROC of the trained head: {spread(before['all'], 4)}\n")
    for method, part in dict.fromkeys(key[:2] for key in results):
        pairs = list(zip(results[method, part, "cxr-cft"], results[method, part, "mlcpl"], strict=True))
        whole, each = ([there[place] / here[place] for here, there in pairs] for place in (0, 2))
        print(f"{method}, {part}: {spread(whole, 1)} times less time, {spread(each, 1)} times less a step\n")
    print("Held-out AUROC reached after so many seconds, median of the seeds ('·': all had ended):\n")
    rows = [
        [method, name, *(_median([one.get(moment) for one in found]) for moment in MOMENTS)]
        for (method, _, name), found in curves.items()
    ]
    show(["method", "library", *(f"{moment} s" for moment in MOMENTS)], rows)


def _one(data):
    """The problem of one category."""
    data.train, data.valid, data.test = (
        (features, np.ascontiguousarray(labels[:, [NUMBER]]))
        for features, labels in (data.train, data.valid, data.test)
    )
    data.weight, data.bias = data.weight[[NUMBER]], data.bias[[NUMBER]]
    return data


def _median(values):
    values = [value for value in values if value is not None]
    return f"{np.median(values):.4f}" if values else "·"
