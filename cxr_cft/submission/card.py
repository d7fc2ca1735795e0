"""MODEL_CARD.md: what a bundle is made of, what is known of its worth, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from cxr_cft.artifacts import Run
from cxr_cft.data.studies import AGGREGATION
from cxr_cft.ensemble.file import CANDIDATES, Ensemble, Estimate, Interval, MemberEntry
from cxr_cft.submission.contents import Contents
from cxr_cft.submission.precision import Comparison

JOINED = {"max": "the maximum", "mean": "the mean", "logit_mean": "the mean logit"}
NONE = "–"
FOLDS = (
    "took part in the search as one member: a study's score was that of the one run that had not seen its patient. "
    "Here all runs of the folds answer and their mean counts, so that the numbers above are of single runs."
)

INTENDED_USE = """\
Research and competitions. Not a medical device: no decision about a patient may rest on it. It has seen the scanners,
patients and labels of one data set, and can fail silently on others."""


def model_card(name: str, contents: Contents, parity: Mapping[str, float], comparison: Comparison | None = None) -> str:
    """The card's Markdown, from the artefacts alone.

    `parity` is the largest difference of each model's probabilities from torch's, by the model's name, `comparison`
    that of the bundle's precision with fp32, if it has another.
    """
    ensemble, output = contents.ensemble, contents.output
    constant = _constant(contents)
    lines = [
        f"# {name}",
        "",
        f"Chest radiographs → probabilities of {', '.join(output)}. Made by cxr-cft {version('cxr-cft')}.",
        "",
        *([f"A constant, for want of labels: {', '.join(constant)}.", ""] if constant else []),
        "## Models",
        "",
        "| member | backbone | input | heads | mean weight | largest difference of ONNX from torch |",
        "| --- | --- | --- | --- | --- | --- |",
        *_members(contents, parity),
        "",
        f"A weight is the mean over the categories above; a study has {_joined(ensemble, contents.members)}.",
        "",
        *(_precision(comparison) if comparison else []),
        "## Evaluation",
        "",
        *_evaluation(ensemble, contents.folds),
        "",
        "## Intended use",
        "",
        INTENDED_USE,
        "",
    ]
    return "\n".join(lines)


def _precision(comparison: Comparison) -> list[str]:
    fp32, here = comparison.mean_auroc
    about = (
        f"The numbers above and below are of the models in fp32; here they are in {comparison.precision}. Mean AUROC "
        f"on the {comparison.studies} validation studies, which chose epochs and weights: {here:.4f} instead of "
        f"{fp32:.4f}; a probability differs by at most {comparison.largest:.1e}."
    )
    return ["## Precision", "", about, ""]


def _constant(contents: Contents) -> list[str]:
    """The categories that no member with weight for them has learnt."""
    weights = contents.ensemble.candidate.weights
    return [
        category
        for category in contents.output
        if all(
            category in contents.runs[member.name].info["unlearnt"]
            for member in contents.members
            if weights[member.name].get(category)
        )
    ]


def _members(contents: Contents, parity: Mapping[str, float]) -> list[str]:
    """A row a member."""
    weights, output = contents.ensemble.candidate.weights, contents.output
    difference = {member.name: parity[model] for model, packed in contents.models.items() for member in packed}
    rows = []
    for member in contents.members:
        mean = sum(weights[member.name].get(category, 0.0) for category in output) / len(output)
        described = _described(member, contents.runs[member.name])
        rows.append(f"{described} | {mean:.3f} | {difference[member.name]:.1e} |")
    return rows


def _described(member: MemberEntry, run: Run) -> str:
    """The first cells of a member's row."""
    model = run.info["recipe"]["model"]
    heads = "tuned per category (CFT)" if member.tuned else "as trained"
    views = ", frontal views" * (run.info["recipe"].get("data", {}).get("views") == "frontal")
    size = model["image_size"]
    return f"| {member.name} | {model['backbone']} | {size} × {size} grey{views} | {heads}"


def _joined(ensemble: Ensemble, members: Sequence[MemberEntry]) -> str:
    """How a study's views are joined; by the maximum where the search saw a member's studies only."""
    how = f"{JOINED[ensemble.aggregation]} of its views"
    others = [member.name for member in members if not member.by_view]
    if ensemble.aggregation == AGGREGATION or not others:
        return how
    return f"{how}, from {', '.join(others)} {JOINED[AGGREGATION]}"


def _evaluation(ensemble: Ensemble, folds: Sequence[str]) -> list[str]:
    scored = ", ".join(f"{category} ({ensemble.positives[category]} positive)" for category in ensemble.scored)
    rows = []
    for name, each in ensemble.candidates.items():
        roles = {"recommended": ensemble.recommended, "used here": ensemble.chosen}
        role = ", ".join(role for role, who in roles.items() if who == name)
        difference = NONE if name == "equal" else _difference(each)
        rows.append(f"| {CANDIDATES.get(name, name)} | {each.fitted:.4f} | {_worth(each)} | {difference} | {role} |")
    about = (
        f"Mean AUROC over {scored} on {ensemble.studies} studies of {ensemble.patients} patients, on which the weights "
        "were searched; intervals are of 95 %."
    )
    return [
        about,
        "",
        "| weights | fitted to these studies | out of fold | difference from equal weights, out of fold | |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Choosing as the recommendation was chosen, within every fold: {_worth(ensemble.procedure)}.",
        "",
        ensemble.caveat,
        *(["", f"Each of {', '.join(folds)} {FOLDS}" if len(folds) > 1 else f"{folds[0]} {FOLDS}"] if folds else []),
    ]


def _worth(estimate: Estimate) -> str:
    return _number(estimate.out_of_fold, ".4f", estimate.interval)


def _difference(estimate: Estimate) -> str:
    return _number(estimate.difference, "+.4f", estimate.difference_interval)


def _number(value: float | None, form: str, interval: Interval | None) -> str:
    if value is None:
        return NONE
    return f"{value:{form}} ({interval[0]:{form}} to {interval[1]:{form}})" if interval else f"{value:{form}}"
