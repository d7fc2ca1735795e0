"""A Python that has what a bundle's requirements install, and nothing else of this environment."""

from __future__ import annotations

import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple

from cxr_cft.submission.needs import needed_distributions

DICOM = ("pydicom",)  # what predict.py takes where it is there


class Interpreter(NamedTuple):
    """The program, and why it has all libraries of this environment; empty if it has the bundle's alone."""

    program: str
    why: str


def own_python(folder: Path) -> Interpreter:
    """Make a virtual environment in `folder` that links to the libraries of predict.py as they are installed here.

    Where an installation does not say which files are its own, the program is this one, with all that it has.
    """
    libraries = needed_distributions(DICOM)
    nameless = [each.metadata["Name"] for each in libraries if not each.files]
    if nameless:
        return Interpreter(sys.executable, f"the installation of {nameless[0]} does not list its files")
    venv.EnvBuilder(symlinks=True).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for name, source in _parts(libraries).items():
        (site / name).symlink_to(source)
    return Interpreter(str(folder / "bin" / "python"), "")


def _parts(libraries: Iterable[Distribution]) -> dict[str, Path]:
    """What lies in site-packages by itself: packages, modules, metadata, libraries beside them."""
    found = {}
    for library in libraries:
        for file in library.files or ():
            name = file.parts[0]
            if name not in ("..", "__pycache__"):  # programs, and what any module may have there
                found[name] = Path(str(library.locate_file(name)))
    return found
