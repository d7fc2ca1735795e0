"""What a container must have for a bundle: exact libraries, Python, glibc. Read from what is installed here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from cxr_cft.errors import SubmissionError

IMPORTED = (("numpy",), ("pillow",), ("onnxruntime-gpu", "onnxruntime"))
"""The distributions of what predict.py imports, of each the first that is installed."""

UNKNOWN = "unknown"

_OLDER = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}  # PEP 600
_PYTHON = re.compile(r"Programming Language :: Python :: (3\.\d+)")


@dataclass(frozen=True)
class Library:
    """A distribution as requirements.txt asks for it: `needed_by` names the one that needs it, none is predict.py.

    `python` is its Requires-Python, `named` are the Python versions of its classifiers, `tags` those of its wheel;
    each is empty where the installation does not say.
    """

    name: str
    version: str
    needed_by: str
    python: SpecifierSet
    named: frozenset[str]
    tags: frozenset[Tag]

    @property
    def pure(self) -> bool:
        """Whether it runs on any processor and system."""
        return bool(self.tags) and all(tag.platform == "any" for tag in self.tags)

    @property
    def glibc(self) -> str:
        """The oldest glibc that its wheel is made for; empty if it needs none, UNKNOWN if no tag says."""
        if self.pure:
            return ""
        # A wheel of several tags fits wherever one of them does.
        return min(filter(None, (_glibc(tag.platform) for tag in self.tags)), key=Version, default=UNKNOWN)


def installed_libraries() -> tuple[Library, ...]:
    """What predict.py imports, and everything that those need in turn, in the versions that are installed here.

    onnxruntime-gpu goes by the name onnxruntime: of the same version, and it installs where there is no CUDA. What is
    needed but not installed has no exact version and is left to pip. Raises SubmissionError if an import of predict.py
    itself comes from no distribution.
    """
    return tuple(_library(each, needed_by) for each, needed_by in _with_needed(map(_installed, IMPORTED)))


def needed_distributions(also: Iterable[str] = ()) -> list[Distribution]:
    """The distributions of `installed_libraries`, and of those of `also`, with what they need, that are installed.

    Raises SubmissionError as that does.
    """
    others = []
    for name in also:
        with suppress(PackageNotFoundError):
            others.append(distribution(name))
    return [each for each, _ in _with_needed([*map(_installed, IMPORTED), *others])]


def of_wheels(libraries: Iterable[Library], wheels: Iterable[Path]) -> tuple[Library, ...]:
    """The libraries, with the tags of the wheels that are to install them instead of those of the installed ones."""
    tags: dict[str, frozenset[Tag]] = {}
    for wheel in wheels:
        name, _, _, own = parse_wheel_filename(wheel.name)
        tags[name] = own
    return tuple(replace(each, tags=tags.get(canonicalize_name(each.name), each.tags)) for each in libraries)


def requirements(libraries: Iterable[Library]) -> str:
    """requirements.txt: exact versions, a line each."""
    return "".join(f"{pin(each)}{_comment(each)}\n" for each in libraries)


def pin(library: Library) -> str:
    """A requirement of exactly this version."""
    return f"{library.name}=={library.version}"


def python_versions(libraries: Sequence[Library]) -> list[str]:
    """The Python versions that every library's metadata names and allows; empty if no library names one.

    A pure library is held to its Requires-Python alone: it runs on versions that are younger than itself.
    """
    named = [each.named for each in libraries if each.named and not each.pure]
    both = frozenset[str]().union(*named).intersection(*named)
    # Some patch release must be allowed, .99 stands for the last one: >=3.9.2 and <3.13 are asked alike.
    allowed = [version for version in both if all(each.python.contains(f"{version}.99") for each in libraries)]
    return sorted(allowed, key=Version)


def oldest_glibc(libraries: Iterable[Library]) -> tuple[str, list[str]]:
    """The glibc that suffices for all whose wheel says so, or UNKNOWN, and the names of those that do not say."""
    glibc = {each.name: each.glibc for each in libraries if not each.pure}
    known = [version for version in glibc.values() if version != UNKNOWN]
    return max(known, key=Version, default=UNKNOWN), [name for name, version in glibc.items() if version == UNKNOWN]


def _with_needed(first: Iterable[Distribution]) -> Iterator[tuple[Distribution, str]]:
    """These and everything that they need in turn, each once, with the name of the one that needs it."""
    waiting, seen = [(each, "") for each in first], set[str]()
    while waiting:
        each, needed_by = waiting.pop(0)
        name = _name(each)
        if name in seen:
            continue
        seen.add(name)
        yield each, needed_by
        for line in each.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                with suppress(PackageNotFoundError):
                    waiting.append((distribution(needed.name), name))


def _name(each: Distribution) -> str:
    name = canonicalize_name(each.metadata["Name"])
    return "onnxruntime" if name == "onnxruntime-gpu" else name


def _installed(names: Sequence[str]) -> Distribution:
    for name in names:
        try:
            return distribution(name)
        except PackageNotFoundError:
            continue
    raise SubmissionError(f"{names[-1]} is not installed as a package here; run `python -m pip install {names[-1]}`")


def _library(each: Distribution, needed_by: str) -> Library:
    lines = (each.read_text("WHEEL") or "").splitlines()
    tags = [parse_tag(line.partition(":")[2].strip()) for line in lines if line.startswith("Tag:")]
    classifiers = map(_PYTHON.fullmatch, each.metadata.get_all("Classifier") or ())
    return Library(
        name=_name(each),
        version=Version(each.version).public,  # who built it is of no use to another machine
        needed_by=needed_by,
        python=SpecifierSet(",".join(each.metadata.get_all("Requires-Python") or ())),
        named=frozenset(found.group(1) for found in classifiers if found),
        tags=frozenset().union(*tags),
    )


def _comment(library: Library) -> str:
    if library.name == "onnxruntime":
        return f"  # or onnxruntime-gpu=={library.version} where there is a CUDA device"
    return f"  # for {library.needed_by}" if library.needed_by else ""


def _glibc(platform: str) -> str | None:
    found = re.match(r"manylinux_(\d+)_(\d+)_", platform)
    return f"{found.group(1)}.{found.group(2)}" if found else _OLDER.get(platform.partition("_")[0])
