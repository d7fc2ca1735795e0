"""CFT of one category against the authors' own library, mlcpl, on a planted problem.

20,000 rows of 512 features, of which 20 % have a known label; the trained head is the logistic regression that blanks
assumed negative teach. 1,000 validation rows choose, 20,000 others report. The same rows for all, three seeds; mlcpl
with its published settings, both stopped by their own rule.
"""

import contextlib
import io
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from cxr_cft.cft import fine_tune_heads
from cxr_cft.metrics import auroc
from tests.benchmarks.table import show, spread

ROWS, FEATURES, KNOWN = 20_000, 512, 0.2


def planted(seed):
    """Correlated features, noisy labels, positives known more often than negatives: (train, valid, test, head)."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(FEATURES, FEATURES)) / np.sqrt(FEATURES)
    weight = rng.normal(size=FEATURES)

    def draw(rows):
        features = (rng.normal(size=(rows, FEATURES)) @ mixing).astype(np.float32)
        logits = features @ weight / np.linalg.norm(mixing @ weight) * 2 - 1
        return features, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.float64)

    (train, truth), valid, test = draw(ROWS), draw(1_000), draw(20_000)
    # A report mentions a finding it sees more often than one it does not, and one feature decides what is reported.
    mention = KNOWN * np.where(truth == 1, 2.0, 0.6) * (1 + np.tanh(train[:, 0]))
    labels = np.where(rng.random(ROWS) < mention, truth, np.nan)
    base = LogisticRegression(max_iter=300).fit(train, np.nan_to_num(labels))
    return (train, labels), valid, test, (base.coef_.astype(np.float32), base.intercept_.astype(np.float32))


def ours(method, train, valid, head, seed):
    result = fine_tune_heads(
        *head,
        (train[0], train[1][:, None]),
        (valid[0], valid[1][:, None]),
        methods=(method,),
        seed=seed,
    )
    return result.weight[0], result.bias[0]


def theirs(method, train, valid, head, seed):
    from mlcpl.cft.core import finetune_head
    from mlcpl.cft.optimization_method import BP, GAForLinear

    torch.manual_seed(seed)
    linear = torch.nn.Linear(FEATURES, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head[0]))
        linear.bias.copy_(torch.from_numpy(head[1]))

    def metric(logits, labels):
        return torch.tensor(auroc(labels.view(-1).numpy(), logits.detach().view(-1).numpy()))

    if method == "bce":
        optimizer = BP(
            device="cpu",
            loss_fn=torch.nn.BCEWithLogitsLoss(),
            optimizer_class=torch.optim.Adam,
            optimizer_kwargs={"lr": 1e-4},
        )
    else:
        optimizer = GAForLinear(device="cpu", metric=metric)
    columns = [torch.from_numpy(part[1][:, None].astype(np.float32)) for part in (train, valid)]
    with contextlib.redirect_stdout(io.StringIO()):
        tuned, _ = finetune_head(
            linear,
            training_data=(torch.from_numpy(train[0]), columns[0]),
            validation_data=(torch.from_numpy(valid[0]), columns[1]),
            optimizer=optimizer,
            epochs=5_000,
            early_stopping=300,
            validation_metric=metric,
            device="cpu",
        )
    return tuned.weight.detach().numpy()[0], float(tuned.bias.detach())


def main():
    seconds, held_out, before, positives = {}, {}, [], []
    for seed in range(3):
        train, valid, test, head = planted(seed)
        positives.append(int(test[1].sum()))
        before.append(auroc(test[1], test[0] @ head[0][0] + head[1][0]))
        for method in ("bce", "ga"):
            for name, tune in (("cxr-cft", ours), ("mlcpl", theirs)):
                begin = time.perf_counter()
                weight, bias = tune(method, train, valid, head, seed)
                seconds.setdefault((method, name), []).append(time.perf_counter() - begin)
                held_out.setdefault((method, name), []).append(auroc(test[1], test[0] @ weight + bias))
    rows = [["none", "–", "–", spread(before, 4)]]
    rows += [
        [method, name, spread(seconds[method, name]), spread(held_out[method, name], 4)] for method, name in seconds
    ]
    show(["method", "library", "seconds", f"held-out AUROC, {min(positives)} to {max(positives)} positives"], rows)
