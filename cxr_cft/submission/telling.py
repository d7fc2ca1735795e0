"""What predict.py says on stderr, and what ends it. Travels with it."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

EVERY = 60.0  # seconds between two lines of progress, where stderr is no terminal


class Failure(Exception):  # noqa: N818 - what it is to whoever reads the script
    """What keeps the whole prediction from being made; the message is the line to show."""


def tell(message: str) -> None:
    """Say a line on stderr, if anybody listens: what is written does not hang on what is said.

    Of what a CSV brings, only what can be printed reaches a terminal as it is.
    """
    message = printable(message)
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # a pipe whose reader has gone, a closed file
            print(f"\r{message}\033[K" if _terminal() else message, file=sys.stderr, flush=True)  # noqa: T201 - a script's own output


def printable(text: str) -> str:
    """The text with escapes in place of what cannot be printed."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # a closed file
        return False


class Counter:
    """Progress on stderr: one line that counts on a terminal, a line a minute elsewhere."""

    def __init__(self, total: int):
        self.total = total
        self.begin = self.told = time.monotonic()

    def tell(self, done: int) -> None:
        """Say how far it is, how fast, and how long it will take."""
        now = time.monotonic()
        rate = done / max(now - self.begin, 1e-9)
        line = f"{done} of {self.total} views, {rate:.1f} a second, {(self.total - done) / rate:.0f} s left"
        if _terminal():
            with suppress(OSError, ValueError):
                print(f"\r{line}\033[K", end="\n" if done == self.total else "", file=sys.stderr, flush=True)  # noqa: T201
        elif now - self.told > EVERY:
            tell(line)
            self.told = now
