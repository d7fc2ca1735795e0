"""MODEL_CARD.md: what a bundle is made of, what is known of its worth, and what it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from cxr_cft.artifacts import Run
from cxr_cft.ensemble.file import OPTIMISM, Ensemble

INTENDED_USE = """\
Research and competitions. Not a medical device: no decision about a patient may rest on it. It has seen the scanners,
patients and labels of one data set, and can fail silently on others."""


def model_card(
    name: str, output: Sequence[str], ensemble: Ensemble, runs: Sequence[Run], parity: dict[str, float]
) -> str:
    """The card's Markdown, from the artefacts alone; `output` are the columns that the bundle writes."""
    constant = [category for category in output if all(category in run.info["unlearnt"] for run in runs)]
    weights = {member.name: member for member in ensemble.members}
    lines = [
        f"# {name}",
        "",
        f"Chest radiographs → probabilities of {', '.join(output)}. Made by cxr-cft {version('cxr-cft')}.",
        "",
        *([f"A constant, for want of labels: {', '.join(constant)}.", ""] if constant else []),
        "## Models",
        "",
        "| model | backbone | input | heads | weight | largest difference of ONNX from torch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        model = run.info["recipe"]["model"]
        heads = "tuned per category (CFT)" if weights[run.name].tuned else "as trained"
        views = ", frontal views" * (run.info["recipe"].get("data", {}).get("views") == "frontal")
        lines.append(
            f"| {run.name} | {model['backbone']} | {model['image_size']} × {model['image_size']} grey{views} | {heads} "
            f"| {weights[run.name].weight:.3f} | {parity[run.name]:.1e} |"
        )
    interval = (
        "" if ensemble.interval is None else f" (95 % {ensemble.interval[0]:+.4f} to {ensemble.interval[1]:+.4f})"
    )
    used = "the weights of the genetic algorithm" if ensemble.chosen == "ga" else "equal weights"
    lines += [
        "",
        "## Evaluation",
        "",
        f"Mean AUROC over {', '.join(ensemble.scored)} on {ensemble.studies} validation studies:",
        "",
        "| weights | fitted to these studies | out of fold |",
        "| --- | --- | --- |",
        f"| equal | {ensemble.equal.fitted:.4f} | {ensemble.equal.out_of_fold:.4f} |",
        f"| genetic algorithm | {ensemble.ga.fitted:.4f} | {ensemble.ga.out_of_fold:.4f} |",
        "",
        f"Difference out of fold: {ensemble.difference:+.4f}{interval}. The bundle uses {used}.",
        "",
        OPTIMISM,
        "",
        "## Intended use",
        "",
        INTENDED_USE,
        "",
    ]
    return "\n".join(lines)
