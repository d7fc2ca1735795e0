"""Turns into the rehearsed script: its file system made read-only but for its own place, its memory and cores limited.

`sandbox` starts this file by itself, `python -I launch.py PLAN`, in namespaces of its own where the system allows them:
standard library only, and no sibling is imported.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

FAILED = 125  # exit code of a place that could not be made, as of `env` and its like
BIND, RECURSIVE, REMOUNT, READ_ONLY = 4096, 16384, 32, 1  # of mount(2), as in linux/mount.h
KEPT = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
"""A mount's flags, which a namespace may not take away from it."""


def main(plan: str) -> None:
    """Do as the plan (a JSON object) says and become its command.

    `place` is the folder that stays writable, `mounts` are pairs of a folder and the empty one that shows it, null
    where nothing can be mounted; `memory` is in bytes, `cores` a number, `folder` where the command is run.
    """
    given = json.loads(plan)
    try:
        if given["mounts"] is not None:
            _shut(given["place"], given["mounts"])
        os.chdir(given["folder"])
        _limit(given["memory"], given["cores"])
        os.execvpe(given["command"][0], given["command"], given["environment"])  # noqa: S606 - it becomes the command
    except OSError as error:
        print(f"the place could not be made: {error}", file=sys.stderr)  # noqa: T201 - told to `sandbox`
        sys.exit(FAILED)


def _shut(place: str, mounts: list[list[str]]) -> None:
    """Show the folders where they are asked for, and let nothing but `place` be written to.

    By mounts, since whoever is root in a namespace is not held back by a file's mode.
    """
    _mount(place, place, BIND)
    for source, target in mounts:
        _mount(source, target, BIND | RECURSIVE)
    for target, options in _mounted():
        if target == os.path.realpath(place):
            continue
        flags = sum(flag for name, flag in KEPT.items() if name in options)
        if target in {os.path.realpath(shown) for _, shown in mounts} | {"/"}:
            _mount("none", target, BIND | REMOUNT | READ_ONLY | flags)
        else:
            with suppress(OSError):  # what the system keeps for itself, as some of /proc and /sys
                _mount("none", target, BIND | REMOUNT | READ_ONLY | flags)


def _mounted() -> list[tuple[str, list[str]]]:
    """Every mount's folder and options, outermost first."""
    lines = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # A blank in a name is written as \040.
    names = [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4]) for fields in lines]
    return [(name, fields[5].split(",")) for name, fields in zip(names, lines)]  # noqa: B905 - both of the same lines


def _mount(source: str, target: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def _limit(memory: int, cores: int) -> None:
    """Hold the process to so many bytes of its own data, and to the first of the cores that it may use.

    RLIMIT_DATA counts what is private and writable, which is what a container's memory goes to. RLIMIT_AS would count
    reserved addresses as well: an arena of 64 MiB a thread, mapped files, tens of GiB where there is CUDA.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    with suppress(OSError, ValueError):  # not on every system
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


if __name__ == "__main__":
    main(sys.argv[1])
