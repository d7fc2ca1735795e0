"""What predict.py is asked: a CSV's views, and where their images lie. Travels with predict.py."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from cxr_cft.submission.telling import Failure, tell

PROBED = 50  # paths that are looked for, to tell where the images lie


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
        tell(f"images are taken from {best[0]}" + f", without the first {best[1]} folders" * bool(best[1]))
    return [_image(path, *best) for path in paths]


def _image(path: str, root: Path, skipped: int) -> Path:
    return root.joinpath(*path.strip().split("/")[skipped:]) if skipped else root / path.strip()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False
