"""What a killed training needs to go on to the same end: everything that an epoch hands to the next."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cxr_cft.artifacts import replacing, write_text
from cxr_cft.errors import RunError
from cxr_cft.settings import Recipe
from cxr_cft.training.model import save_tensors


@dataclass
class Standing:
    """How far a training is: epochs done, the best of them, and the history so far."""

    epochs: int = 0
    best_epoch: int = 0
    best_score: float = float("-inf")
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoint:
    """The folder RUN/checkpoint: the last epoch's state and the best epoch's weights.

    The best weights are written under their epoch's number before the state that counts them, and the earlier best goes
    only after it: killed between any two, a training finds the weights that its state speaks of.
    """

    def __init__(self, run: Path):
        self.folder = run / "checkpoint"
        self.history = run / "history.jsonl"

    @property
    def _state(self) -> Path:
        return self.folder / "last.pt"

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def exists(self) -> bool:
        """Whether an epoch was ever completed here."""
        return self._state.exists()

    def save_best(self, epoch: int, state: dict[str, Tensor]) -> None:
        """Keep a copy of an epoch's weights as the best so far."""
        save_tensors(self._best(epoch), state)

    def best(self, epoch: int) -> dict[str, Tensor]:
        """The best epoch's weights."""
        return load_file(self._best(epoch))

    def save(self, standing: Standing, recipe: Recipe, data: str, state: dict[str, Any]) -> None:
        """Write the state after an epoch, and history.jsonl as far as it goes."""
        content = {"standing": vars(standing), "recipe": recipe.model_dump_json(), "data": data, **state}
        # The history first: a training killed between the two writes it again, the other way round it never would.
        write_text(self.history, "".join(json.dumps(line) + "\n" for line in standing.history))
        with replacing(self._state) as beside:
            torch.save(content, beside)
        for earlier in self.folder.glob("best-*.safetensors"):
            if earlier != self._best(standing.best_epoch):
                earlier.unlink()

    def load(self, recipe: Recipe, data: str) -> tuple[Standing, dict[str, Any]]:
        """Read the state. Raises RunError if it is of another recipe or other data, or damaged."""
        try:
            content = torch.load(self._state, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch raises whatever the broken byte led it to; with weights_only none of it runs foreign code.
            raise RunError(f"{self._state} is damaged; delete {self.folder.parent} and train again") from error
        for name, now in (("recipe", recipe.model_dump_json()), ("data", data)):
            if content.pop(name) != now:
                raise RunError(
                    f"{self.folder.parent} was begun with another {name}; "
                    "go on with the same, or train under another --name"
                )
        return Standing(**content.pop("standing")), content

    def remove(self) -> None:
        """Delete the folder, once the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
