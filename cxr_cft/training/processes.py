"""The processes that train together, as `torchrun` or `accelerate launch` starts them, or one alone.

One writes (the main one), all compute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr_cft.data.table import Table
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import over_table

PATIENCE = timedelta(days=1)
"""How long processes wait for one another: while the first decodes images the others wait, for hours on large data. A
process that dies is noticed by the launcher, which ends the others."""


def join() -> PartialState:
    """This process among those that were started together. Raises what torch raises where they cannot be reached."""
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=not torch.cuda.is_available(), **({"timeout": PATIENCE} if together else {}))


def leave() -> None:
    """Take leave of the others, at the end of all work."""
    if PartialState._shared_state:
        PartialState().destroy_process_group()


def is_main() -> bool:
    """Whether this process is the one that writes and tells; known without joining the others."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def main_first() -> Iterator[bool]:
    """Run the block in each machine's main process, and only then in its others; gives whether this is the main one."""
    state = join()
    with state.local_main_process_first():
        yield state.is_main_process


def over_table_together(
    function: Callable[[Tensor], Tensor], table: Table, recipe: Recipe, description: str, progress: Progress = SILENT
) -> NDArray[np.float32]:
    """`over_table`, each process taking a stretch of the rows; every process gets all of it (N, K)."""
    state = join()
    mine = own_rows(table)
    own = (
        [over_table(function, mine, recipe, state.device, description, progress if state.is_main_process else SILENT)]
        if len(mine)
        else []
    )
    return gathered(own)


def own_rows(table: Table) -> Table:
    """This process's stretch of a table's rows."""
    state = join()
    if state.num_processes == 1:
        return table
    chosen = np.zeros(len(table), dtype=bool)
    chosen[np.array_split(np.arange(len(table)), state.num_processes)[state.process_index]] = True
    return table.take(chosen)


def gathered(own: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The processes' arrays (n, K), at most one each, joined in their order."""
    return np.concatenate(own if join().num_processes == 1 else gather_object(own))


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics: each has those of the images that it saw itself."""
    if join().num_processes > 1:
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer.contiguous()))


def summed(value: Tensor) -> Tensor:
    """The sum of a scalar over the processes."""
    if join().num_processes > 1:
        torch.distributed.all_reduce(value)
    return value


def agreed(value: str) -> str:
    """The main process's value, in every process."""
    if join().num_processes == 1:
        return value
    found: list[str] = broadcast_object_list([value])
    return found[0]
