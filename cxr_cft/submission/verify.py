"""A bundle's rehearsal: run as the server runs it, from a read-only copy, without a network, and its output checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_cft.data.labels import COMPETITION
from cxr_cft.data.phantoms import write_phantoms
from cxr_cft.data.predictions import read_predictions
from cxr_cft.data.studies import study_of
from cxr_cft.data.table import read_frame
from cxr_cft.errors import SubmissionError, first_few
from cxr_cft.progress import SILENT, Progress

TIME_LIMIT = 3600.0  # seconds; the server's is not published (assumed)
HIDDEN_PATIENTS, HIDDEN_SIZE = (
    40,
    320,
)  # of the made hidden set: some ten studies, CheXpert-small's size


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found: the output CSV, its studies, seconds, and whether the network was really cut."""

    output: Path
    studies: int
    seconds: float
    offline: bool
    told: str


def rehearse(bundle: Path, csv: Path | None, output: Path, progress: Progress = SILENT) -> Rehearsal:
    """Run a copy of the bundle's predict.py on `csv`, then check `output` by the competition's rules.

    The copy is read-only and lies elsewhere; the working directory is new; of the environment only PATH, HOME and the
    locale are left; where the system allows it, the run has no network. Images are looked for from the folder above
    the CSV's on; without a CSV the bundle answers for made radiographs. Raises SubmissionError if the script fails or
    its output would be rejected.
    """
    if not (bundle / "predict.py").is_file():
        raise SubmissionError(
            f"{bundle} is no bundle: it has no predict.py; make one with `cxr-cft package-submission`"
        )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if csv is None:
            write_phantoms(place / "hidden", patients=HIDDEN_PATIENTS, size=HIDDEN_SIZE, progress=progress)
            csv = place / "hidden" / "test.csv"
        if not csv.is_file():
            raise SubmissionError(f"there is no file {csv}")
        begin = time.perf_counter()
        offline, told = _run(bundle, csv.resolve(), output.resolve(), place)
        seconds = time.perf_counter() - begin
        return Rehearsal(output, check_output(output, csv), seconds, offline, told)


def _run(bundle: Path, csv: Path, output: Path, place: Path) -> tuple[bool, str]:
    """Run the script in `place`; returns whether the network was cut, and what the script told."""
    isolation = _without_network()
    copy = place / "src"
    shutil.copytree(bundle, copy)
    _read_only(copy)
    (place / "work").mkdir()
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    # The link in a virtual environment, not what it points to, is what finds the environment's libraries.
    command = [*isolation, sys.executable, "-B", str(copy / "predict.py"), str(csv), str(output)]
    command += ["--image-root", str(csv.parent.parent)]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LC_ALL") if key in os.environ}
    try:
        done = subprocess.run(  # noqa: S603 - the command is our own
            command, cwd=place / "work", env=environment, capture_output=True, text=True, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired:
        raise SubmissionError(f"{bundle}: predict.py had not finished after {TIME_LIMIT:.0f} seconds") from None
    finally:
        _writable(copy)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SubmissionError(f"{bundle}: predict.py failed with exit code {done.returncode}: {last}")
    return bool(isolation), done.stderr


def check_output(output: Path, csv: Path) -> int:
    """Hold an output CSV against the competition's rules; returns the number of studies.

    Raises SubmissionError for a header that differs, a study that is missing, added or written otherwise, and (as
    PredictionsError) for a doubled study or a score that is no finite number.
    """
    header = list(read_frame(output).columns)
    wanted = ["Study", *COMPETITION]
    if set(COMPETITION) <= set(header) and header != wanted:
        raise SubmissionError(f"{output}: the header is {','.join(header)}, not {','.join(wanted)}")
    if header[0] != "Study":
        raise SubmissionError(f"{output}: the first column is {header[0]}, not Study")
    predictions = read_predictions(output, header[1:])
    asked = {study_of(path.strip()) for path in read_frame(csv)["Path"] if path.strip()}
    for what, studies in (("lacks", asked - set(predictions.studies)), ("adds", set(predictions.studies) - asked)):
        if studies:
            raise SubmissionError(f"{output} {what} {len(studies)} studies: {first_few(sorted(studies))}")
    return len(predictions.studies)


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
