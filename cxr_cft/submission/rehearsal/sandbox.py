"""Running a bundle's script as the competition's server does: read-only, offline, with its memory, cores and time.

A rehearsal, no jail: it finds what would fail there, and does not hold whoever means harm.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cxr_cft.data.processors import processors
from cxr_cft.errors import SubmissionError
from cxr_cft.progress import SILENT, Progress
from cxr_cft.submission.rehearsal import launch
from cxr_cft.submission.rehearsal.libraries import Interpreter, own_python

CORES = 4  # of the server, unless more is asked for (the organisers' description)
MEMORY = 14 * 10**9  # bytes; the same
TIME_LIMIT = 3600.0  # seconds; the server's is not published (assumed)
SCRIPT = "predict.py"
OUTPUT = "answer/output.csv"  # in a folder that is not there
SOURCE = "src"  # what the server calls the bundle
NAMESPACES = ("--user", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--")
OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "annot allocate memory", "Failed to allocate memory")


@dataclass(frozen=True)
class Ran:
    """A run that ended well: its output, what it said, how long it took, and what else it left, by name."""

    output: Path
    told: tuple[str, ...]
    seconds: float
    left: tuple[str, ...]


@dataclass(frozen=True)
class Sandbox:
    """A bundle's copy in a place of its own, ready to be run; `isolated` says whether by namespaces.

    `folder` takes whatever a rehearsal needs; a run can read it, and write only below the folder of its own. `python`
    is what runs the script.
    """

    bundle: Path
    folder: Path
    isolated: bool
    python: Interpreter

    @property
    def copy(self) -> Path:
        """The bundle's copy."""
        return self.folder / "copy"

    def run(self, csv: Path, shown: Mapping[str, Path] | None = None, progress: Progress = SILENT) -> Ran:
        """Run `python src/predict.py CSV answer/output.csv`, in a fresh working directory that holds `src` alone.

        `shown` are folders that lie there too, by their names. What the script says is noted as it comes. Raises
        SubmissionError if it fails, writes no output, or has not ended after `TIME_LIMIT` seconds.
        """
        place = Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
        folder, environment = place / "server", _environment(place)
        folder.mkdir()
        mounts = [
            [str(source), str(self._show(source, folder / name))]
            for name, source in {SOURCE: self.copy, **(shown or {})}.items()
        ]
        command = [self.python.program, f"{SOURCE}/{SCRIPT}", str(csv), OUTPUT]
        plan = _plan(place, folder, mounts if self.isolated else None, command, environment)
        before = _names(self.copy)
        begin = time.perf_counter()
        code, told = self._listen(_command(plan, isolated=self.isolated), progress)
        seconds = time.perf_counter() - begin
        if code != 0:
            raise self._failure(code, told)
        output = folder / OUTPUT
        if not output.is_file():
            raise SubmissionError(f"{self.bundle}: {SCRIPT} ended well and wrote no output")
        expected = {OUTPUT, SOURCE, *(shown or {})}
        left = [f"{name} (working directory)" for name in sorted(_names(folder) - expected)]
        left += [f"{SOURCE}/{name}" for name in sorted(_names(self.copy) - before)]
        for variable in ("TMPDIR", "HOME"):
            left += [f"{variable}/{name}" for name in sorted(_names(Path(environment[variable])))]
        return Ran(output, tuple(told), seconds, tuple(left))

    def _show(self, source: Path, target: Path) -> Path:
        """Where `source` is to be mounted; a link to it where nothing can be."""
        if self.isolated:
            target.mkdir()
        else:
            target.symlink_to(source)
        return target

    def _listen(self, command: Sequence[str], progress: Progress) -> tuple[int, list[str]]:
        """Exit code and lines of a command, which ends with us and at the limit, with all that it started."""
        told: list[str] = []
        late = threading.Event()
        with subprocess.Popen(  # noqa: S603 - the command is our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process:

            def end() -> None:
                late.set()
                _kill(process.pid)

            limit = threading.Timer(TIME_LIMIT, end)
            limit.start()
            try:
                for line in process.stderr or ():
                    told.append(line.rstrip())
                    progress.note(f"{SCRIPT}: {told[-1]}")
                code = process.wait()
            finally:
                limit.cancel()
                _kill(process.pid)  # of a script that left others behind, or of a rehearsal that is given up
        if late.is_set():
            raise SubmissionError(
                f"{self.bundle}: {SCRIPT} had not finished after {TIME_LIMIT:.0f} seconds; use fewer or smaller models"
            )
        return code, told

    def _failure(self, code: int, told: Sequence[str]) -> SubmissionError:
        last = next((line for line in reversed(told) if line.strip()), "it said nothing")
        memory = ""
        if any(sign in line for line in told[-20:] for sign in OUT_OF_MEMORY) or code == -signal.SIGKILL:
            memory = f"; it may have {MEMORY / 1e9:.0f} GB, as on the server: use fewer or smaller models"
        return SubmissionError(f"{self.bundle}: {SCRIPT} failed with exit code {code}: {last}{memory}")


@contextmanager
def sandbox(bundle: Path, names: Sequence[str]) -> Iterator[Sandbox]:
    """A copy of the bundle's files `names` that can be run, and goes when the block ends, however it does."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as name:
        folder = Path(name).resolve()
        made = Sandbox(bundle, folder, _can_isolate(folder), own_python(folder / "python"))
        for each in names:
            (made.copy / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / each, made.copy / each)
        _set_modes(made.copy, 0o555, 0o444)
        try:
            yield made
        finally:
            _set_modes(made.copy, 0o755, 0o644)


def usable_cores() -> int:
    """How many cores the script gets: the server's, or those that there are."""
    return min(CORES, processors())


def told_isolation(made: Sandbox) -> str:
    """How the script is held, in one line."""
    limits = f"{usable_cores()} cores, {MEMORY / 1e9:.0f} GB, {TIME_LIMIT / 60:.0f} minutes"
    why = made.python.why
    limits += f", and all libraries of this environment, since {why}" if why else ", the libraries it requires alone"
    if made.isolated:
        return f"run without a network on a read-only file system: {limits}"
    return (
        f"run with {limits}; this system allows no namespaces (`unshare`), so that the network is not cut and only the "
        "bundle's copy is read-only, by its mode"
    )


def _environment(place: Path) -> dict[str, str]:
    """All that the script finds of an environment: folders of its own, and how to find programs."""
    folders = {"HOME": place / "home", "TMPDIR": place / "tmp"}
    for folder in folders.values():
        folder.mkdir()
    path = {"PATH": os.environ["PATH"]} if "PATH" in os.environ else {}
    return {**path, "LANG": "C", **{name: str(folder) for name, folder in folders.items()}}


def _plan(
    place: Path,
    folder: Path,
    mounts: Sequence[Sequence[str]] | None,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> str:
    plan = {"place": str(place), "folder": str(folder), "mounts": mounts, "memory": MEMORY, "cores": CORES}
    return json.dumps({**plan, "command": command, "environment": environment})


def _command(plan: str, *, isolated: bool) -> list[str]:
    unshare = shutil.which("unshare") if isolated else None
    return [*([unshare, *NAMESPACES] if unshare else []), sys.executable, "-I", str(launch.__file__), plan]


def _can_isolate(folder: Path) -> bool:
    """Whether this system lets a process have namespaces of its own, tried out."""
    if shutil.which("unshare") is None:
        return False
    shown = folder / "shown"
    shown.mkdir()
    command = [sys.executable, "-I", "-c", "pass"]
    plan = _plan(folder, folder, [[str(shown), str(shown)]], command, {})
    tried = subprocess.run(_command(plan, isolated=True), capture_output=True)  # noqa: S603 - the command is our own
    shown.rmdir()
    return tried.returncode == 0


def _names(folder: Path) -> set[str]:
    """What lies in a folder: files, links, which are not followed, and folders in which nothing is."""
    found = set()
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found |= {(Path(parent) / name).relative_to(folder).as_posix() for name in (*links, *files)}
        if not folders and not files:
            found.add(Path(parent).relative_to(folder).as_posix())
    return found - {"."}


def _kill(group: int) -> None:
    """End a process of ours and what it started. In a namespace they all end with its first process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _set_modes(folder: Path, of_folders: int, of_files: int) -> None:
    for path in folder.rglob("*"):
        path.chmod(of_folders if path.is_dir() else of_files)
    folder.chmod(of_folders)
