"""Pages of heat maps in a folder: their names, what each says of itself, and the index of them all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from cxr_cft.artifacts import replacing, write_csv
from cxr_cft.data.table import read_frame
from cxr_cft.errors import CxrCftError, DataError

INDEX = "index.csv"
COLUMNS = ("Study", "File", "Run", "Head", "Category", "Probability", "Label")

MARK = "cxr-cft explain"
"""The PNG's text that says what a page was made of: by it a page is ours, and is not drawn a second time."""

REVISION = 1
"""Of what pages look like; pages of another one are drawn anew."""

COMPRESSION = 4  # of zlib: half the time of its usual 6 for 7 % more bytes (measured on pages of two views)


def page_name(study: str, head: str) -> str:
    """The file of a study's page by a head: the study's path with _ for /, and the head's name.

    Some hexadecimals stand between them where that is not safe or not unique.
    """
    plain, by = (re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._-")[-120:] for name in (study, head))
    if plain and plain.replace("_", "/") == study and by == head:
        return f"{plain}.{by}.png"
    return f"{plain}_{hashlib.sha256(json.dumps([study, head]).encode()).hexdigest()[:8]}.{by}.png".lstrip("_")


def write_page(path: Path, page: Image.Image, made_of: Mapping[str, Any]) -> None:
    """Write a page that says of itself what it was made of, atomically."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt(MARK, json.dumps({"revision": REVISION, **made_of}, allow_nan=False))
    with replacing(path) as beside:
        page.save(beside, format="png", pnginfo=text, compress_level=COMPRESSION)


def read_page(path: Path) -> dict[str, Any] | None:
    """What a page was made of; None for a file that is no whole page of this revision, or is not there."""
    made_of = _mark(path)
    return made_of if made_of is not None and made_of.pop("revision", None) == REVISION and _is_whole(path) else None


def check_ours(folder: Path, pages: Iterable[Path]) -> None:
    """Raise CxrCftError if `folder` is a file, or writing pages and the index would replace what someone else wrote."""
    if folder.exists() and not folder.is_dir():
        raise CxrCftError(f"{folder} is a file; give a folder to write pages into")
    foreign = [path for path in pages if path.exists() and _mark(path) is None]
    index = folder / INDEX
    if index.exists() and not _is_index(index):
        foreign.append(index)
    if foreign:
        raise CxrCftError(f"{foreign[0]} is there and was not written by `cxr-cft explain`; give another folder")


def write_index(folder: Path) -> int:
    """List all pages of a folder, a row for each category, and say how many pages that are."""
    pages = [(path, made_of) for path in sorted(folder.glob("*.png")) if (made_of := read_page(path)) is not None]
    write_csv(folder / INDEX, COLUMNS, (row for path, made_of in pages for row in _rows(path, made_of)))
    return len(pages)


def _rows(path: Path, made_of: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for category, probability, label in zip(
        made_of["categories"], made_of["probabilities"], made_of["labels"], strict=True
    ):
        yield made_of["study"], path.name, made_of["run"], made_of["head"], category, repr(probability), label


def _mark(path: Path) -> dict[str, Any] | None:
    try:
        with Image.open(path, formats=["png"]) as page:
            made_of = json.loads(page.info.get(MARK, "null"))
    except (OSError, ValueError, SyntaxError):
        return None
    return made_of if isinstance(made_of, dict) else None


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path, formats=["png"]) as page:
            page.verify()
    except (OSError, SyntaxError):
        return False
    return True


def _is_index(path: Path) -> bool:
    try:
        return tuple(read_frame(path).columns) == COLUMNS
    except DataError:
        return False
