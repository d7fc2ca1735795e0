"""The training curves: every epoch of every run."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, ValidationError

from cxr_cft.evaluation.report.facts import Training
from cxr_cft.evaluation.report.found import Found, FoundRun


class _Epoch(BaseModel):
    model_config = ConfigDict(extra="ignore")

    epoch: int
    loss: float
    mean_auroc: float | None


def trainings(found: Found, missing: list[str]) -> tuple[Training, ...]:
    """The epochs of each run; one without a history that can be read is a line of `missing`."""
    read = []
    for run in found.runs:
        try:
            read.append(_training(run))
        except (OSError, ValueError) as error:
            fault = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
            missing.append(
                f"The training curves of {run.name} are left out: {run.run.path / 'history.jsonl'}: {fault}."
            )
    return tuple(read)


def _training(run: FoundRun) -> Training:
    text = (run.run.path / "history.jsonl").read_text(encoding="utf-8")
    epochs = [_Epoch.model_validate(json.loads(line)) for line in text.splitlines() if line.strip()]
    if not epochs:
        raise ValueError("it is empty")
    return Training(
        run=run.name,
        epochs=tuple(each.epoch for each in epochs),
        loss=tuple(each.loss for each in epochs),
        auroc=tuple(each.mean_auroc for each in epochs),
        kept=run.info.metrics.best_epoch,
    )
