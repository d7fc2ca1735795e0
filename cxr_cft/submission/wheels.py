"""The wheels that let a bundle's libraries be installed without a network, as pip itself finds that they suffice."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from cxr_cft.artifacts import write_text
from cxr_cft.errors import SubmissionError
from cxr_cft.submission.needs import Library, pin, requirements

MISSING = re.compile(r"No matching distribution found for (\S+)")  # pip's words


def find_wheels(folder: Path, libraries: Sequence[Library]) -> list[Path]:
    """The wheels in `folder` that pip takes for these libraries, one each, by name.

    They are for the Python and the system that run this. pip is asked to plan an installation from the folder alone,
    without a network, without what is installed, and without the user's settings; it installs nothing. Raises
    SubmissionError if a wheel is missing or damaged (saying how to fetch it), or there is no pip here.
    """
    if not folder.is_dir():
        raise SubmissionError(f"there is no folder {folder} with wheels; make it with `{fetching(folder, libraries)}`")
    with tempfile.TemporaryDirectory() as name:
        wanted = Path(name) / "requirements.txt"
        write_text(wanted, requirements(libraries))
        plan = _plan(folder, wanted, libraries)
    wheels = sorted(folder / unquote(each["download_info"]["url"].rpartition("/")[2]) for each in plan["install"])
    for wheel in wheels:
        _check_whole(wheel)
    return wheels


def fetching(folder: Path, libraries: Sequence[Library]) -> str:
    """The command that fetches the wheels into `folder`."""
    pins = " ".join(pin(each) for each in libraries)
    return f"python -m pip download --only-binary :all: -d {shlex.quote(str(folder))} {pins}"


def _plan(folder: Path, wanted: Path, libraries: Sequence[Library]) -> dict[str, list[dict[str, dict[str, str]]]]:
    """What pip would install, as its own report."""
    command = [
        *(sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"),
        *("--dry-run", "--ignore-installed", "--report", "-"),
        *("--no-index", "--only-binary", ":all:", f"--find-links={folder.resolve()}", "--requirement", str(wanted)),
    ]
    # Settings of the whole machine are read even so, and may name other folders of wheels.
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")  # noqa: S603
    if done.returncode == 0:
        found: dict[str, list[dict[str, dict[str, str]]]] = json.loads(done.stdout)
        return found
    if "No module named pip" in done.stderr:
        raise SubmissionError(
            f"the wheels in {folder} cannot be checked, for want of pip; run `{sys.executable} -m ensurepip`"
        )
    missing = MISSING.search(done.stderr)
    if missing:
        version = ".".join(map(str, sys.version_info[:2]))
        raise SubmissionError(
            f"{folder} holds no wheel of {missing.group(1)} for Python {version} on this system; "
            f"fetch what is missing with `{fetching(folder, libraries)}`"
        )
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    raise SubmissionError(f"pip cannot install from the wheels in {folder}: {said[-1]}")


def _check_whole(wheel: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as file:
            damaged = file.testzip()
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise SubmissionError(f"{wheel} could not be read: {error}; fetch it again") from error
    if damaged is not None:
        raise SubmissionError(f"{wheel} is damaged ({damaged}); fetch it again")
