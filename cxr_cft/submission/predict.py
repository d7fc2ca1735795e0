"""Predict a CSV of radiographs offline, by `python predict.py INPUT.csv OUTPUT.csv`.

Needs numpy, Pillow and onnxruntime, and the files beside it; no network, nothing of what trained the models. Reads the
column Path (and Frontal/Lateral, if there is one), writes one row a study. Every study gets its row: a view that cannot
be read is left out of its study, a study without a readable view gets the average of the validation studies, and both
are named on stderr. A model of frontal views is asked about lateral ones only where a study has no readable frontal.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_cft.data.images import read_image
from cxr_cft.data.odds import expit
from cxr_cft.data.studies import AGGREGATIONS, aggregate_views, without_laterals
from cxr_cft.ensemble.blend import blend_scores
from cxr_cft.submission.inputs import find_images, read_views
from cxr_cft.submission.runtime import Model, load_models
from cxr_cft.submission.telling import Counter, Failure, tell

if TYPE_CHECKING:
    Images = np.ndarray[Any, np.dtype[np.uint8]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]


HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="INPUT.csv", type=Path, help="a CSV with the column Path")
    parser.add_argument("output", metavar="OUTPUT.csv", type=Path, help="where the probabilities go")
    parser.add_argument(
        "--image-root",
        type=Path,
        help="folder that the paths continue, looked at first (else the working directory and the CSV's)",
    )
    parser.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="images at once (default: 16)")
    chosen = parser.parse_args(arguments)
    try:
        predict(HERE, chosen.input, chosen.output, chosen.image_root, chosen.batch_size)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)  # noqa: T201 - a script's own output
        return 1
    return 0


def predict(bundle: Path, source: Path, output: Path, image_root: Path | None, batch_size: int) -> None:
    """Predict the studies of `source` with the models of `bundle` and write them to `output`, all or nothing."""
    if output.resolve() == source.resolve():
        raise Failure(f"the output would take the place of {source}; give another one")
    paths, words = read_views(source)
    roots = [root for root in (image_root, Path.cwd(), source.resolve().parent) if root is not None]
    files = find_images(paths, roots)
    specification = load_specification(bundle)
    for how in aggregations(specification):
        if how not in AGGREGATIONS:
            raise Failure(f"the bundle's code does not join views by {how}; package it again")
    models = load_models(bundle, specification["members"])
    tell(f"{len(models)} models on {next(iter(models.values())).provider}")

    unreadable: dict[str, str] = {}
    scores = _scores(models, specification, paths, files, batch_size, unreadable)
    for member, part in zip(specification["members"], scores):  # noqa: B905 - strict is younger than 3.8
        if member.get("views", "all") == "frontal":
            drop_laterals(part, paths, words)
    studies, blended = blend(specification, paths, scores)
    lost = np.isnan(blended).any(axis=1)
    blended[lost] = [specification["prior"][category] for category in specification["output"]]

    for path, reason in unreadable.items():
        tell(f"left out {path}: {reason}")
    for row in np.flatnonzero(lost):
        tell(f"no readable view of {studies[row]}: it gets the average of the validation studies")
    write_rows(output, ["Study"] + specification["output"], studies, blended)
    tell(f"wrote {len(studies)} studies to {output} ({len(unreadable)} of {len(paths)} views unreadable)")
    if len(unreadable) == len(paths):
        raise Failure("not one view could be read, so that every study has the same average; give --image-root")


def load_specification(bundle: Path) -> dict[str, Any]:
    """submission.json, after every file of the bundle was checked against manifest.json."""
    try:
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        for name, expected in manifest["sha256"].items():
            if hashlib.sha256((bundle / name).read_bytes()).hexdigest() != expected:
                raise Failure(f"{bundle / name} is not the file that was packaged; unpack the bundle again")
        specification: dict[str, Any] = json.loads((bundle / "submission.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise Failure(f"the bundle in {bundle} is damaged: {error}") from error
    return specification


def write_rows(output: Path, header: Sequence[str], names: Sequence[str], values: Floats) -> None:
    """Write a CSV beside its final name and rename it; numbers in full, so that no two become one."""
    beside = output.with_name(output.name + ".partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([name] + [repr(float(value)) for value in row] for name, row in zip(names, values))  # noqa: B905
        beside.replace(output)
    except OSError as error:
        raise Failure(f"{output} could not be written: {error}") from error


def _scores(
    models: dict[str, Model],
    specification: dict[str, Any],
    paths: Sequence[str],
    files: Sequence[Path],
    batch_size: int,
    unreadable: dict[str, str],
) -> Floats:
    """Probabilities (M, views, C) of the output's categories, each model run once for all of its members.

    They are nan where a view could not be read, which is noted in `unreadable`, and where a member lacks a category.
    """
    members, output = specification["members"], specification["output"]
    scores = np.full((len(members), len(paths), len(output)), np.nan)
    sizes = sorted({model.size for model in models.values()})
    predicted = [[c for c, name in enumerate(output) if name in member["categories"]] for member in members]
    counter = Counter(len(paths))
    for start in range(0, len(paths), batch_size):
        rows, images = _read(range(start, min(start + batch_size, len(paths))), paths, files, sizes, unreadable)
        logits = {name: model.logits(images[model.size]) for name, model in models.items()} if rows else {}
        for m, member in enumerate(members if rows else []):
            columns = [member["first"] + member["categories"].index(output[c]) for c in predicted[m]]
            scores[m][np.ix_(rows, predicted[m])] = expit(logits[member["model"]][:, columns])
        counter.tell(min(start + batch_size, len(paths)))
    return scores


def _read(
    rows: Sequence[int], paths: Sequence[str], files: Sequence[Path], sizes: Sequence[int], unreadable: dict[str, str]
) -> tuple[list[int], dict[int, Images]]:
    """The rows whose image could be read, and their images (B, 1, S, S) for every size that a member wants."""
    found: list[int] = []
    images: dict[int, list[Images]] = {size: [] for size in sizes}
    for row in rows:
        try:
            read = [read_image(files[row], size) for size in sizes]
        except Exception as error:  # whatever one image does, the other studies get their rows
            unreadable[paths[row]] = str(error) or type(error).__name__
            continue
        found.append(row)
        for size, image in zip(sizes, read):  # noqa: B905 - strict is younger than 3.8
            images[size].append(image[None])
    return found, {size: np.stack(read) for size, read in images.items() if read}


def aggregations(specification: dict[str, Any]) -> list[str]:
    """How each member's views are joined: as the ensemble's, unless the member says otherwise."""
    return [member.get("aggregation", specification["aggregation"]) for member in specification["members"]]


def drop_laterals(scores: Floats, paths: Sequence[str], words: Sequence[str]) -> None:
    """Set to nan the scores (views, C) of lateral views whose study has a frontal one with scores in any category.

    A frontal view that could not be read leaves its study to the lateral ones: they say more of it than an average.
    """
    scored = [row for row, part in enumerate(scores) if not np.isnan(part).all()]
    used = without_laterals([paths[row] for row in scored], [words[row] for row in scored])
    scores[np.array(scored, dtype=np.intp)[~used]] = np.nan


def blend(specification: dict[str, Any], paths: Sequence[str], scores: Floats) -> tuple[list[str], Floats]:
    """Views to studies for each member, then members to one probability: studies and (studies, C).

    `scores` (M, views, C) are the members' probabilities of the output's categories.
    """
    members, output = specification["members"], specification["output"]
    joined = [aggregate_views(paths, part, how) for part, how in zip(scores, aggregations(specification))]  # noqa: B905
    studies = joined[0][0]
    weights = np.array([[member["weights"].get(name, 0.0) for name in output] for member in members])
    scales = [[member["scale"].get(name) for name in output] for member in members]
    slope, intercept = (
        np.array([specification["output_scale"][name][key] for name in output]) for key in ("slope", "intercept")
    )
    return studies, blend_scores(np.stack([part for _, part in joined]), weights, scales, slope, intercept)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
