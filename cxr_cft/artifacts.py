"""What stages leave on disk for each other: atomic writes, fingerprints, and run folders, complete or refused."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import DTypeLike, NDArray

from cxr_cft.errors import CxrCftError, RunError, did_you_mean
from cxr_cft.progress import SILENT, Progress

if sys.platform != "win32":
    import fcntl

LIBRARIES = (
    "cxr-cft",
    "numpy",
    "pandas",
    "torch",
    "timm",
    "albumentations",
    "pillow",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
)


UNWRITABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}
"""What the disk or the path that the user gave can be to blame for; anything else is our own fault."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # a file system without them: two writers are not told apart


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place when the block ends well, and goes when it does not.

    Works for a file and for a folder (a folder replaces an earlier one). Parent folders are made. Raises CxrCftError
    where the disk is full or does not let itself be written to.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(beside)
        yield beside
        if beside.is_dir():
            _remove(path)
        else:
            _flush(beside)
        beside.replace(path)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise CxrCftError(f"{path} could not be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # where nothing can be written nothing can be removed, and the first error says why
            _remove(beside)


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises CxrCftError where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CxrCftError(f"{path} could not be made: {error.strerror}") from error


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn what the disk is to blame for into a CxrCftError of one line, which ends with `advice`."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise CxrCftError(f"{path} could not be written: {error.strerror}{advice}") from error


@contextmanager
def locked(path: Path, busy: str, *, wait: bool = False, progress: Progress = SILENT) -> Iterator[io.FileIO]:
    """The file `path`, to append to and not buffered, while no other process has it by this function.

    Whoever dies loses it at once; one who forks while holding it shares it. Where another process has it, CxrCftError
    with the line `busy` is raised, or, with `wait`, noted to `progress` before waiting. A file system without locks,
    and Windows, let everybody have it. Raises CxrCftError where the file cannot be written.
    """
    while True:
        with writing(path):
            file = io.FileIO(path, "a+")
        with file:
            if not _lock(file, wait=False):
                if not wait:
                    raise CxrCftError(busy)
                progress.note(busy)
                _lock(file, wait=True)
            if _lies_at(path, file):  # else whoever had it has removed it, and the next one locks another file
                yield file
                return


def hold(path: Path) -> int:
    """The descriptor of the opened file `path`, which `locked` lets no other process have until it is closed.

    Any number of processes can hold it at once. Raises OSError where there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY)
    _lock(descriptor, wait=True, shared=True)
    return descriptor


def write_text(path: Path, text: str) -> None:
    """Write `text` so that `path` holds either what it held before or all of it."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically. Raises ValueError for nan: JSON has none, write None."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV, atomically; numbers at full precision, so that no two scores become one."""
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one array as .npy, atomically."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def npy_header(shape: tuple[int, ...], dtype: DTypeLike) -> bytes:
    """What a .npy of this shape begins with; the rows follow."""
    buffer = io.BytesIO()
    descr = dtype_to_descr(np.dtype(dtype))
    write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CxrCftError for a missing file or one that does not hold an object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CxrCftError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise CxrCftError(f"{path} could not be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CxrCftError(f"{path} does not hold a JSON object")
    return content


def fingerprint(*paths: Path) -> str:
    """The sha256 of the files' bytes, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """The installed version of every library whose numbers end up in an artefact."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Run:
    """A trained backbone on disk. `info` is run.json, which is written last: a run that has it is complete."""

    path: Path
    info: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name, which names the run everywhere."""
        return self.path.name

    @property
    def categories(self) -> tuple[str, ...]:
        """The columns that the run predicts, in the order of its head's rows."""
        return tuple(self.info["categories"])

    @property
    def model_file(self) -> Path:
        """The trained weights."""
        return self.path / "model.safetensors"

    @property
    def weights(self) -> str | None:
        """The fingerprint that the trained weights must have; None in a run.json without one, which fits no file."""
        found: str | None = self.info.get("files", {}).get("model.safetensors")
        return found

    @property
    def heads_file(self) -> Path:
        """The heads that CFT tuned; there only once `cft` has run."""
        return self.path / "heads.safetensors"

    def data(self, root: Path | None = None) -> tuple[Path, Path | None]:
        """The data folder and image root of training, or `root` where the folder has moved since.

        Raises RunError if it is not there.
        """
        found = root or Path(self.info["data"]["root"])
        if not found.is_dir():
            raise RunError(f"run {self.name} was trained on {found}, which is gone; say where it is now with --data")
        image_root = self.info["data"].get("image_root")
        return found, Path(image_root) if image_root else None

    def predictions(self, split: str, *, tuned: bool, views: bool = False) -> Path:
        """Where the predictions of a split's studies, or of their single views, lie, by the trained or the tuned head.

        `cxr_cft.ensemble.members` reads these names.
        """
        return self.path / "predictions" / f"{split}{'.views' if views else ''}{'.cft' if tuned else ''}.csv"

    def tuned(self) -> dict[str, Any] | None:
        """cft.json, if heads were tuned from these very weights; None if there are none or they are of older weights.

        Raises RunError if the heads are not those that cft.json speaks of.
        """
        path = self.path / "cft.json"
        if not path.exists():
            return None
        report = read_json(path)
        if report.get("model") != self.weights:
            return None
        if not self.heads_file.exists() or fingerprint(self.heads_file) != report.get("heads"):
            raise RunError(
                f"{self.heads_file} is missing or not what cft.json says it is; run `cxr-cft cft {self.path}` again"
            )
        return report


def open_run(path: Path) -> Run:
    """Open a complete run and check its weights against run.json.

    Raises RunError if the folder is missing (naming the runs beside it), training has not finished, or the weights
    are not the ones that run.json speaks of.
    """
    if not path.is_dir():
        others = [run.name for run in complete_runs(path.parent)]
        known = f"; complete runs there: {', '.join(others)}" if others else "; no run is complete there"
        raise RunError(f"there is no run {path}{did_you_mean(path.name, others)}{known}")
    manifest = path / "run.json"
    if not manifest.exists():
        raise RunError(f"run {path} is not complete (no run.json); finish it with `cxr-cft train … --resume`")
    run = Run(path, read_json(manifest))
    if not run.model_file.exists() or fingerprint(run.model_file) != run.weights:
        raise RunError(f"{run.model_file} is damaged or not this run's (sha256 differs from run.json); train it again")
    return run


def complete_runs(folder: Path) -> list[Run]:
    """Every complete run directly under `folder`, by name."""
    if not folder.is_dir():
        return []
    return [Run(path.parent, read_json(path)) for path in sorted(folder.glob("*/run.json"))]


def find_runs(names: Sequence[str], weights: Path) -> list[Run]:
    """The named runs (a path, or a name under `weights`), checked; with no names, every complete run there.

    Raises RunError if one does not exist or is not complete, or if there is none at all.
    """
    if names:
        return [open_run(Path(name) if Path(name).is_dir() else weights / name) for name in names]
    runs = complete_runs(weights)
    if not runs:
        raise RunError(
            f"no complete run under {weights}; train one first, e.g. `cxr-cft train densenet121 --data ROOT`"
        )
    return [open_run(run.path) for run in runs]


def check_name(name: str) -> None:
    """Raise RunError unless `name` can name a folder of its own: a run, or a bundle."""
    if not name or name.startswith(".") or Path(name).name != name:
        raise RunError(f"'{name}' is no name for a folder; use letters, digits, - and _")


def _lock(file: io.FileIO | int, *, wait: bool, shared: bool = False) -> bool:
    """Whether the file is now this process's, or of those that share it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
    return True


def _lies_at(path: Path, file: io.FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
