"""Images as the model sees them, decoded once into a file that is mapped into memory, and never those of other data."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import weakref
import zlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import __version__ as pillow

from cxr_cft.artifacts import UNWRITABLE, hold, locked, make_folder, npy_header, read_json, write_array, write_json
from cxr_cft.data.decode import Chunk, Decoded, decoded, processes_for, write_all
from cxr_cft.data.images import preprocessing
from cxr_cft.data.table import Table
from cxr_cft.errors import CxrCftError, DataError
from cxr_cft.progress import SILENT, Progress

CHUNK = 128  # rows that are decoded and put on disk together: what a kill costs each process (assumed; a second or so)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ELSEWHERE = "keep decoded images elsewhere (`--set data.cache=DIR`) or not at all (`--set data.cache=false`)"


def cached_images(
    table: Table, size: int, folder: Path, progress: Progress = SILENT, *, part: str = "all"
) -> CachedImages:
    """Every image of a table as `read_image` fits it into (`size`, `size`), decoded now or by an earlier call.

    `folder`/KEY.npy holds them, (N, S, S) uint8, KEY.crc.npy a checksum of each, and KEY.json, written last, what
    they are of: rows, images, preprocessing, Pillow. Where all that agrees nothing is decoded. Otherwise those of the
    same CSV, `part`, image folder and size that no process is reading are removed and all are decoded, by as many
    processes as there are cores for; killed at any point, the next call goes on to the same bytes. So give it the whole
    CSV's table, or a part of it under a name: smaller ones are read from the same file, and two parts of one name given
    in turn would remove each other's.
    Raises DataError for an image that is missing or cannot be read, CxrCftError where the disk does not take them.
    """
    place = _Place.of(table, size, folder, part)
    if not place.complete():
        try:
            make_folder(folder)
        except CxrCftError as error:
            raise CxrCftError(f"{error}; {_ELSEWHERE}") from error
        _remove_outdated(place, progress)
        busy = f"{place.images} is being made by another process; waiting until that is done"
        with locked(place.record, busy, wait=True, progress=progress) as record:
            if not place.complete():
                _Build(place, table, size, record, progress).run()
    _unlink(place.record)  # not only where it was just made: a process killed at its very end leaves it
    return CachedImages(place.images, place.sums, place.manifest, table, size)


class CachedImages:
    """The decoded images of a table: `rows` finds those of the table or a part of it, `read` reads one.

    Another process gets the files' names and maps them itself; it reads by row. As long as this one is there, no
    process removes the files.
    """

    def __init__(self, images: Path, sums: Path, manifest: Path, table: Table, size: int):
        self.images, self.sums, self.size = images.absolute(), sums.absolute(), size
        self._table: Table | None = table
        try:
            weakref.finalize(self, os.close, hold(manifest))
        except OSError as error:
            raise DataError(f"{manifest} cannot be read: {error}; repeat the command, which decodes anew") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"images": self.images, "sums": self.sums, "size": self.size, "_table": None}

    def rows(self, table: Table) -> NDArray[np.uint32]:
        """Where each row of `table` (M,) lies here. Raises DataError for a view that was not cached."""
        if self._table is None:
            raise ValueError("in another process cached images are read by row")
        if (table.images, table.skipped) != (self._table.images, self._table.skipped):
            raise DataError(f"{table.source}: its images lie in {table.images}, those cached in {self._table.images}")
        # A view that is there twice is the same image twice.
        known = {path: row for row, path in enumerate(self._table.paths)}
        for path in table.paths:
            if path not in known:
                raise DataError(f"{table.source}: view {path} is not among the cached images of {self._table.source}")
        return np.fromiter((known[path] for path in table.paths), np.uint32, len(table))

    def read(self, row: int, view: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The image (S, S) in a row. Raises DataError, which names `view`, where it is not as it was written."""
        images, sums = self._mapped
        image = np.array(images[row])
        if zlib.crc32(image.data) != sums[row]:
            raise DataError(f"{self.images}: the image of {view} is damaged{self._again}")
        return image

    @cached_property
    def _mapped(self) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        try:
            images, sums = open_memmap(self.images, mode="r"), open_memmap(self.sums, mode="r")
        except (OSError, ValueError) as error:
            raise DataError(f"{self.images} cannot be read: {error}{self._again}") from error
        if images.dtype != np.uint8 or sums.dtype != np.uint32 or images.shape != (len(sums), self.size, self.size):
            raise DataError(f"{self.images} does not hold {self.size} × {self.size} images{self._again}")
        return images, sums

    @property
    def _again(self) -> str:
        return f"; delete {self.images} and repeat the command, which decodes anew"


# ---- where they lie, and whether those that lie there are these


@dataclass(frozen=True)
class _Place:
    """The files of one cache of images (N, S, S).

    `what` is what its manifest says: under `key` all that decides its bytes, and so its name; else what it is of.
    """

    folder: Path
    what: dict[str, Any]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, table: Table, size: int, folder: Path, part: str) -> _Place:
        key = {
            "rows": hashlib.sha256("\n".join(table.paths).encode()).hexdigest(),
            "images": table.image_digest(),
            "preprocessing": preprocessing(size),
            "pillow": pillow,
        }
        of = {"source": str(table.source.resolve()), "part": part, "folder": str(table.images.resolve()), "size": size}
        return cls(folder, {"key": key, **of}, (len(table), size, size))

    @property
    def name(self) -> str:
        return hashlib.sha256(json.dumps(self.what["key"], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def images(self) -> Path:
        return self.folder / f"{self.name}.npy"

    @property
    def sums(self) -> Path:
        return self.folder / f"{self.name}.crc.npy"

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def partial(self) -> Path:
        return self.folder / f"{self.name}.partial.npy"

    @property
    def record(self) -> Path:
        return self.folder / f"{self.name}.partial.jsonl"

    @property
    def header(self) -> bytes:
        return npy_header(self.shape, np.uint8)

    @property
    def bytes(self) -> int:
        return len(self.header) + int(np.prod(self.shape, dtype=np.int64))

    def complete(self) -> bool:
        """Whether the manifest vouches for these very images, and the files are as long as they must be."""
        count = self.shape[0]
        sums = len(npy_header((count,), np.uint32)) + 4 * count
        with suppress(CxrCftError, FileNotFoundError):
            return (
                read_json(self.manifest).get("key") == self.what["key"]
                and self.images.stat().st_size == self.bytes
                and self.sums.stat().st_size == sums
            )
        return False


def _remove_outdated(place: _Place, progress: Progress) -> None:
    """Remove what lies there of the same CSV, part, folder and size, finished or not, but what a process is at."""
    for manifest in sorted(place.folder.glob("*.json")):
        if manifest != place.manifest:
            with suppress(CxrCftError):
                found = read_json(manifest)
                if _same(found, place):
                    with locked(manifest, "it is being read"):
                        key = place.what["key"]
                        changed = ", ".join(part for part in key if found["key"].get(part) != key[part])
                        progress.note(f"{manifest.with_suffix('.npy')} is removed: changed since: {changed}")
                        # The manifest last: it is what leads here again.
                        _unlink(manifest.with_suffix(".npy"), manifest.with_suffix(".crc.npy"), manifest)
    for record in sorted(place.folder.glob("*.partial.jsonl")):
        if record != place.record and _same(_parse(_content(record))[0], place):
            with suppress(CxrCftError), locked(record, "busy"):
                _unlink(record.with_suffix(".npy"), record)


def _same(found: dict[str, Any], place: _Place) -> bool:
    """Whether a manifest or a record is of the same CSV, part, folder and size."""
    key = found.get("key")
    return isinstance(key, dict) and all(found.get(part) == place.what[part] for part in place.what if part != "key")


def _unlink(*paths: Path) -> None:
    with suppress(OSError):  # not ours, or in use where that forbids it: it stays
        for path in paths:
            path.unlink(missing_ok=True)


# ---- making them


class _Build:
    """A cache in the making, and the record of the rows that are surely on disk."""

    def __init__(self, place: _Place, table: Table, size: int, record: io.FileIO, progress: Progress):
        self.place, self.table, self.size, self.record, self.progress = place, table, size, record, progress
        self.sums = np.zeros(len(table), np.uint32)
        self.done = np.zeros(len(table), np.bool_)

    def run(self) -> None:
        """Decode what is not there yet, and leave images, checksums and manifest."""
        place, source = self.place, self.table.source
        try:
            self._resume()
            rest = np.flatnonzero(~self.done)
            if 0 < len(rest) < len(self.done):
                done = len(self.done) - len(rest)
                self.progress.note(f"decoding {source.name}: {done:,} of {len(self.done):,} images are there already")
            self._check_room()
            finished = self._recorded(decoded(self._chunks(rest), processes_for(len(rest))))
            for _ in self.progress.track(finished, f"decoding {source.name}", len(rest), "images"):
                pass
            write_array(place.sums, self.sums)
            with suppress(FileNotFoundError):  # without locks, another process may just have been as far
                place.partial.replace(place.images)
            write_json(place.manifest, {**place.what, "count": len(self.table)})
        except OSError as error:
            if error.errno in _FULL:
                raise self._no_room(f"{error.strerror}") from error
            if error.errno in UNWRITABLE:
                raise CxrCftError(f"{place.images} could not be written: {error.strerror}; {_ELSEWHERE}") from error
            raise
        except BrokenProcessPool as error:
            raise CxrCftError(
                f"{source}: a process that decoded its images has died (was memory short?); "
                "repeat the command, it goes on where it was"
            ) from error

    def _resume(self) -> None:
        """Take over the recorded rows whose images are as they were written.

        Reading them all takes a small part of the time of decoding them, and a row that is damaged is decoded again
        rather than found in the midst of training.
        """
        place = self.place
        if place.images.exists() and not place.partial.exists():  # killed between its last steps, or damaged since
            place.images.replace(place.partial)
        what, known, whole = _parse(_content(place.record))
        if what.get("key") != place.what["key"]:
            known, whole = {}, 0
        self.record.truncate(whole)  # the end of a line that was being written is none
        if not whole:
            write_all(self.record, json.dumps(place.what).encode() + b"\n")
        if not known:
            place.partial.unlink(missing_ok=True)  # not emptied: who reads it still, under its final name, would die
        with io.FileIO(place.partial, "r+" if place.partial.exists() else "w+") as file:
            for row in filter(known.__contains__, range(len(self.done))):
                file.seek(self._offset(row))
                if zlib.crc32(file.read(self.size**2)) == known[row]:
                    self.done[row], self.sums[row] = True, known[row]
            file.seek(0)
            write_all(file, place.header)
            file.truncate(place.bytes)

    def _offset(self, row: int) -> int:
        return len(self.place.header) + row * self.size**2

    def _chunks(self, rest: NDArray[np.int64]) -> Iterator[Chunk]:
        for start in range(0, len(rest), CHUNK):
            rows = rest[start : start + CHUNK]
            files = [self.table.file(row) for row in rows.tolist()]
            yield Chunk(rows, files, self.size, self.table.source, self.place.partial, self._offset(0))

    def _recorded(self, results: Iterator[Decoded]) -> Iterator[int]:
        """Record what is on disk; the number of every row that is."""
        for rows, sums in results:
            line = json.dumps({"rows": rows.tolist(), "sums": sums})
            write_all(self.record, line.encode() + b"\n")
            self.done[rows], self.sums[rows] = True, sums
            yield from rows.tolist()

    @property
    def _missing(self) -> int:
        """Bytes that are still to be written."""
        return int((~self.done).sum()) * self.size**2

    def _check_room(self) -> None:
        if shutil.disk_usage(self.place.folder).free < self._missing:
            raise self._no_room("the disk is too full")

    def _no_room(self, reason: str) -> CxrCftError:
        free = shutil.disk_usage(self.place.folder).free
        return CxrCftError(
            f"{self.place.images} could not be written: {reason}; the decoded images of {self.table.source} need "
            f"{_amount(self._missing)} more, {_amount(free)} are free: make room, {_ELSEWHERE}"
        )


# ---- files


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _parse(content: bytes) -> tuple[dict[str, Any], dict[int, int], int]:
    """A record's first line, the checksum of every row in the others, and how many of its bytes are whole lines."""
    what: dict[str, Any] = {}
    known: dict[int, int] = {}
    whole = 0
    with suppress(ValueError, KeyError, TypeError):  # a line that was being written ends what is known
        for line in content.splitlines(keepends=True):
            found = json.loads(line)
            if not line.endswith(b"\n"):
                break
            if whole:
                known.update(zip(found["rows"], found["sums"], strict=True))
            else:
                what = dict(found)
            whole += len(line)
    return what, known, whole


def _amount(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
