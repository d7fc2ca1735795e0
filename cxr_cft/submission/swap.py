"""A bundle's folder and its zip take the places of the former ones together, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cxr_cft.artifacts import locked, make_folder, writing


@contextmanager
def replacing_bundle(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Paths for a new FOLDER/ and FOLDER.zip, which are put in the places of the former two when the block ends well.

    An error leaves the former ones as they were. So does a kill while the new ones are written; between the four
    renames at the end it can leave one of the two, or none, under its name, but never a folder beside another's zip,
    and the next call for the same folder puts the former ones back before it begins. Raises CxrCftError where another
    process is at it, or nothing can be written.
    """
    archive = archive_of(folder)
    work = folder.with_name(f".{folder.name}.partial")
    lock = folder.with_name(f".{folder.name}.lock")
    make_folder(folder.parent)
    with locked(lock, f"{folder} is being packaged by another process; wait until that is done"):
        try:
            with writing(folder):
                _put_back(work, folder, archive)
                _clear(work)
                (work / "new").mkdir(parents=True)
                yield work / "new" / folder.name, work / "new" / archive.name
                _swap(work, folder, archive)
        finally:
            with suppress(OSError):  # what cannot be removed now is removed the next time
                _clear(work)
                lock.unlink()


def archive_of(folder: Path) -> Path:
    """Where the zip of a bundle's folder lies."""
    return folder.with_name(f"{folder.name}.zip")


def _swap(work: Path, folder: Path, archive: Path) -> None:
    (work / "former").mkdir()  # from here on both new ones are whole
    try:
        for place in (archive, folder):
            if place.exists():
                place.replace(work / "former" / place.name)
        for place in (folder, archive):
            (work / "new" / place.name).replace(place)
    except BaseException:
        _put_back(work, folder, archive)
        raise


def _put_back(work: Path, folder: Path, archive: Path) -> None:
    """Undo a swap that was broken off; a rename at a time, so that a kill on the way is undone by the next call."""
    new, former = work / "new", work / "former"
    if not former.exists() or not any((new / place.name).exists() for place in (folder, archive)):
        return  # not begun, or done
    for place in (folder, archive):
        if place.exists() and not (new / place.name).exists():
            place.replace(new / place.name)
        if (former / place.name).exists():
            (former / place.name).replace(place)


def _clear(work: Path) -> None:
    # The former ones first: without that folder nobody takes what is half removed for a swap that was broken off.
    for path in (work / "former", work):
        if path.exists():
            shutil.rmtree(path)
