"""A bundle's rehearsal: run as the server runs it, from a read-only copy, without a network, and its output checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_cft.artifacts import replacing
from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.phantoms import write_phantoms
from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.studies import study_of
from cxr_cft.data.table import read_frame, read_table
from cxr_cft.errors import SubmissionError, first_few
from cxr_cft.progress import SILENT, Progress

OUTPUT = "output.csv"
TIME_LIMIT = 3600.0  # seconds; the server's is not published (assumed)
HIDDEN_PATIENTS = 40  # of the made hidden set, of which some ten studies are asked for (assumed)
HIDDEN_SIZE = 320  # pixels of their short side, as in CheXpert-small
UNREADABLE = re.compile(r"\((\d+) of \d+ views unreadable\)")


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found: the output CSV, its studies, seconds, unreadable views, and whether the network was cut.

    `missing` names the competition's categories that the output has not: without them its evaluator rejects it.
    """

    output: Path
    studies: int
    seconds: float
    unreadable: int
    offline: bool
    missing: tuple[str, ...]


def rehearse(
    bundle: Path, csv: Path | None, output: Path, progress: Progress = SILENT, *, image_root: Path | None = None
) -> Rehearsal:
    """Run a copy of the bundle as `python src/predict.py INPUT OUTPUT` on `csv`, and check what comes out.

    The copy is read-only; the data's folder is linked into the working directory, above `src`, as on the competition's
    server; of the environment only PATH, HOME and the locale are left; where the system allows it, the run has no
    network. Without a CSV the bundle answers for made radiographs. `output` is written only if it passes. Raises
    SubmissionError if the script fails, could read no image, or its output does not answer the input.
    """
    if not (bundle / "predict.py").is_file():
        raise SubmissionError(
            f"{bundle} is no bundle: it has no predict.py; make one with `cxr-cft package-submission`"
        )
    if output.is_dir() or (csv is not None and output.resolve() == csv.resolve()):
        raise SubmissionError(f"the output cannot be written to {output}; give another --out")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if csv is None:
            write_phantoms(place / "hidden", patients=HIDDEN_PATIENTS, size=HIDDEN_SIZE, progress=progress)
            csv = place / "hidden" / "test.csv"
        _link_images(csv, image_root, place)
        begin = time.perf_counter()
        offline, told = _run(bundle, csv.resolve(), place, progress)
        seconds = time.perf_counter() - begin
        written = place / OUTPUT
        studies, missing = check_output(written, csv)
        counts = UNREADABLE.search(told)
        unreadable = int(counts.group(1)) if counts else 0
        with replacing(output) as beside:
            shutil.copyfile(written, beside)
        return Rehearsal(output, studies, seconds, unreadable, offline, missing)


def check_output(output: Path, csv: Path) -> tuple[int, tuple[str, ...]]:
    """Hold an output CSV against the competition's rules; returns the number of studies, and the categories it lacks.

    Raises SubmissionError for a header that differs, a study that is missing, added or written otherwise, and (as
    PredictionsError) for a doubled study or a score that is no finite number.
    """
    frame = read_frame(output)
    header, wanted = list(frame.columns), ["Study", *COMPETITION]
    missing = tuple(category for category in COMPETITION if category not in header)
    if header[0] != "Study" or (not missing and header != wanted):
        raise SubmissionError(f"{output}: the header is {','.join(header)}, not {','.join(wanted)}")
    read_predictions(output, header[1:])
    given, asked = set(frame["Study"]), {study_of(path) for path in read_frame(csv)["Path"] if path.strip()}
    for what, studies in (("lacks", asked - given), ("adds", given - asked)):
        if studies:
            raise SubmissionError(f"{output} {what} {len(studies)} studies: {first_few(sorted(studies))}")
    return len(given), missing


def _link_images(csv: Path, image_root: Path | None, place: Path) -> None:
    """Let the paths' top folder lie in `place`, as the server mounts it."""
    table = read_table(csv, csv.resolve().parent, [], labelled=False, image_root=image_root)
    top = table.paths[0].split("/")[0]
    source = table.images.resolve() if table.skipped else table.images.resolve() / top
    if top and not (place / top).exists() and source.exists():
        (place / top).symlink_to(source)


def _run(bundle: Path, csv: Path, place: Path, progress: Progress) -> tuple[bool, str]:
    """Run the script in `place`; returns whether the network was cut, and what the script told."""
    isolation = _without_network()
    copy = place / "src"
    shutil.copytree(bundle, copy)
    _read_only(copy)
    # The link in a virtual environment, not what it points to, is what finds the environment's libraries.
    command = [*isolation, sys.executable, "-B", "src/predict.py", str(csv), OUTPUT]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LC_ALL") if key in os.environ}
    told = []
    with subprocess.Popen(  # noqa: S603 - the command is our own
        command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        limit = threading.Timer(TIME_LIMIT, process.kill)
        limit.start()
        try:
            for line in process.stderr or ():
                told.append(line.rstrip())
                progress.note(f"predict.py: {told[-1]}")
        except BaseException:
            process.kill()
            raise
        finally:
            late = not limit.is_alive()
            limit.cancel()
    _writable(copy)
    if late:
        raise SubmissionError(f"{bundle}: predict.py had not finished after {TIME_LIMIT:.0f} seconds")
    if process.returncode != 0:
        last = (told or ["it said nothing"])[-1]
        raise SubmissionError(f"{bundle}: predict.py failed with exit code {process.returncode}: {last}")
    return bool(isolation), "\n".join(told)


def _without_network() -> Sequence[str]:
    """The prefix of a command that cuts the network, or nothing where this system does not allow it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    prefix = (unshare, "--user", "--map-root-user", "--net")
    tried = subprocess.run([*prefix, "true"], capture_output=True)  # noqa: S603 - the command is our own
    return prefix if tried.returncode == 0 else ()


def _read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def _writable(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
