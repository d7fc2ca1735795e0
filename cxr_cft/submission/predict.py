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
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from cxr_cft.data.images import preprocessing, read_image
from cxr_cft.data.odds import expit
from cxr_cft.data.studies import AGGREGATION, aggregate_views, study_of, without_laterals
from cxr_cft.ensemble.blend import blend_scores

if TYPE_CHECKING:
    Images = np.ndarray[Any, np.dtype[np.uint8]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]

PROBED = 50  # paths that are looked for, to tell where the images lie
EVERY = 15.0  # seconds between two lines of progress, where stderr is a file

HERE = Path(__file__).resolve().parent


class Failure(Exception):  # noqa: N818 - what it is to whoever reads the script
    """What keeps the whole prediction from being made; the message is the line to show."""


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
    if specification["aggregation"] != AGGREGATION:
        raise Failure(f"the bundle's code does not join views by {specification['aggregation']}; package it again")
    members = [Member(bundle, entry) for entry in specification["members"]]
    _tell(f"{len(members)} models on {members[0].provider}")

    unreadable: dict[str, str] = {}
    scores = _scores(members, specification, paths, files, batch_size, unreadable)
    for member, part in zip(members, scores):  # noqa: B905 - strict is younger than 3.8
        if member.entry.get("views", "all") == "frontal":
            drop_laterals(part, paths, words)
    studies, blended = _blend(members, specification, paths, scores)
    prior = np.array([specification["prior"][category] for category in specification["categories"]])
    lost = np.isnan(blended).any(axis=1)
    blended[lost] = prior

    for path, reason in unreadable.items():
        _tell(f"left out {path}: {reason}")
    for row in np.flatnonzero(lost):
        _tell(f"no readable view of {studies[row]}: it gets the average of the validation studies")
    columns = [specification["categories"].index(category) for category in specification["output"]]
    write_rows(output, ["Study"] + specification["output"], studies, blended[:, columns])
    _tell(f"wrote {len(studies)} studies to {output} ({len(unreadable)} of {len(paths)} views unreadable)")
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


class Member:
    """One model of the bundle, ready to run."""

    def __init__(self, bundle: Path, entry: dict[str, Any]):
        self.entry = entry
        self.size = int(entry["preprocessing"]["size"])
        if entry["preprocessing"] != preprocessing(self.size):
            raise Failure(f"model {entry['name']} needs other image code than this bundle's; package it again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = processors()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            str(bundle / entry["model"]), options, providers=wanted_providers(onnxruntime.get_available_providers())
        )
        told = self.session.get_modelmeta().custom_metadata_map
        if json.loads(told["categories"]) != entry["categories"]:
            raise Failure(
                f"model {entry['name']} predicts other categories than submission.json says; package it again"
            )
        self.provider = self.session.get_providers()[0].replace("ExecutionProvider", "")

    def logits(self, images: Images) -> Floats:
        """Logits (B, C) of images (B, 1, S, S)."""
        return np.asarray(self.session.run(["logits"], {"images": images})[0], dtype=np.float64)


def processors() -> int:
    """How many processors this process may use: in a container fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def wanted_providers(available: Sequence[str]) -> list[str]:
    """CUDA where a device really is (the library lists it on any machine), then the CPU."""
    cuda = "CUDAExecutionProvider" in available and Path("/dev/nvidiactl").exists()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]


def read_views(source: Path) -> tuple[list[str], list[str]]:
    """The columns Path and Frontal/Lateral (blank where there is none) of a CSV, as they are.

    Without blank rows and each path once, in the order of the first.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "Path" not in (reader.fieldnames or []):
                raise Failure(f"{source} has no column Path; its columns are {', '.join(reader.fieldnames or [])}")
            views: dict[str, str] = {}
            for row in reader:
                if (row["Path"] or "").strip():
                    views.setdefault(row["Path"], row.get("Frontal/Lateral") or "")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"{source} could not be read: {error}") from error
    if not views:
        raise Failure(f"{source} has no rows")
    return list(views), list(views.values())


def find_images(paths: Sequence[str], roots: Sequence[Path]) -> list[Path]:
    """The images' files: under one root, whole or with leading folders dropped, the same way for every path.

    Patient, study and view are never dropped: a picture of the same name may be somebody else's.
    """
    ways = [
        (root, skipped)
        for skipped in range(max(1, max(path.count("/") for path in paths) - 1))
        for root in roots
        if skipped == 0 or all(path.count("/") - skipped >= 2 for path in paths)
    ]
    probed = paths[:PROBED]
    found = [sum(_is_file(_image(path, *way)) for path in probed) for way in ways]
    best = ways[found.index(max(found))]  # the first of equals
    if best != ways[0]:
        _tell(f"images are taken from {best[0]}" + f", without the first {best[1]} folders" * bool(best[1]))
    return [_image(path, *best) for path in paths]


def _image(path: str, root: Path, skipped: int) -> Path:
    return root.joinpath(*path.strip().split("/")[skipped:]) if skipped else root / path.strip()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


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
    members: Sequence[Member],
    specification: dict[str, Any],
    paths: Sequence[str],
    files: Sequence[Path],
    batch_size: int,
    unreadable: dict[str, str],
) -> Floats:
    """Probabilities (M, views, C), nan where a view could not be read; those are noted in `unreadable`."""
    scores = np.full((len(members), len(paths), len(specification["categories"])), np.nan)
    sizes = sorted({member.size for member in members})
    columns = [[m.entry["categories"].index(name) for name in specification["categories"]] for m in members]
    counter = Counter(len(paths))
    for start in range(0, len(paths), batch_size):
        rows, images = _read(range(start, min(start + batch_size, len(paths))), paths, files, sizes, unreadable)
        for m, member in enumerate(members if rows else []):
            scores[m, rows] = expit(member.logits(images[member.size]))[:, columns[m]]
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


def drop_laterals(scores: Floats, paths: Sequence[str], words: Sequence[str]) -> None:
    """Set to nan the scores (views, C) of lateral views whose study has a frontal one with scores.

    A frontal view that could not be read leaves its study to the lateral ones: they say more of it than an average.
    """
    scored = [row for row, part in enumerate(scores) if not np.isnan(part).any()]
    used = without_laterals([paths[row] for row in scored], [words[row] for row in scored])
    scores[np.array(scored, dtype=np.intp)[~used]] = np.nan


def _blend(
    members: Sequence[Member],
    specification: dict[str, Any],
    paths: Sequence[str],
    scores: Floats,
) -> tuple[list[str], Floats]:
    """Views to studies for each member, then members to one probability: studies and (studies, C)."""
    studies = list(dict.fromkeys(study_of(path) for path in paths))
    joined = np.stack([aggregate_views(paths, part)[1] for part in scores])
    scales = [[member.entry["scale"][name] for name in specification["categories"]] for member in members]

    def table(key: str) -> np.ndarray[Any, Any]:
        return np.array([[scale[key] for scale in row] for row in scales])

    weights = np.array([member.entry["weight"] for member in members])
    return studies, blend_scores(joined, weights, table("probability"), table("center"), table("spread"))


class Counter:
    """Progress on stderr: one line that counts on a terminal, a line now and then in a file."""

    def __init__(self, total: int):
        self.total = total
        self.begin = self.told = time.monotonic()

    def tell(self, done: int) -> None:
        """Say how far it is, how fast, and how long it will take."""
        now = time.monotonic()
        rate = done / max(now - self.begin, 1e-9)
        line = f"{done} of {self.total} views, {rate:.1f} a second, {(self.total - done) / rate:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{line}\033[K", end="\n" if done == self.total else "", file=sys.stderr, flush=True)  # noqa: T201
        elif now - self.told > EVERY:
            _tell(line)
            self.told = now


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - a script's own output


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
