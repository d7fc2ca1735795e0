"""How long work tells of its progress without printing: it reports to whoever called it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """What stages report to. The command line draws bars or writes lines; `SILENT` ignores it all."""

    def track(self, items: Iterable[T], description: str, total: int, unit: str = "steps") -> Iterator[T]:
        """Hand on `items` one by one, counting them against `total`."""
        ...

    def note(self, message: str) -> None:
        """Say one line that stays on the screen."""
        ...

    def status(self, text: str) -> None:
        """Say beside what is being counted how it stands; the next replaces it."""
        ...


class Silent:
    """Progress that nobody watches."""

    def track(self, items: Iterable[T], description: str, total: int, unit: str = "steps") -> Iterator[T]:  # noqa: ARG002
        """Hand on `items`."""
        yield from items

    def note(self, message: str) -> None:
        """Say nothing."""

    def status(self, text: str) -> None:
        """Say nothing."""


SILENT = Silent()
