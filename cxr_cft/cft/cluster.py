"""Categories and runs tuned by the workers of a Dask cluster.

By Dask's own client, not through joblib's backend for it: that runs everything here where the cluster has one thread,
and loses data that was sent ahead together with the worker that holds it.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError
from urllib.parse import urlsplit

import torch

from cxr_cft import __version__
from cxr_cft.cft.category import Problem, Tuned, tune_category
from cxr_cft.errors import CxrCftError

Task = tuple[int, int]  # number of the problem, category

CONNECT_SECONDS = 30.0  # that the scheduler may take to answer, and to show its first worker (assumed)


def tune_on_cluster(
    address: str, problems: Sequence[Problem], tasks: Sequence[Task], threads: Sequence[int]
) -> Generator[tuple[Task, Tuned], None, None]:
    """Tune the categories of problems on a cluster's workers, and hand results on in the order in which they come.

    Memory-mapped features are not sent: workers open the same files. `threads` of the arithmetic, for each problem,
    are the caller's, so that results are the same to the last digit. A worker that dies has its task done by another.
    Raises CxrCftError if Dask is not installed, the scheduler does not answer, it has no workers, or a worker cannot do
    its task.
    """
    try:
        import dask
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise CxrCftError("a cluster needs Dask; install it with `pip install 'cxr-cft[cluster]'`") from error
    if not _is_address(address):
        raise CxrCftError(f"'{address}' is no address of a Dask scheduler; give one like tcp://HOST:PORT")
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TypeError) as error:  # TypeError: tls:// without certificates
        raise CxrCftError(f"the cluster {address} cannot be used: {_line(error)}") from error
    # A problem is large, and known to be: Dask need not warn of it.
    with client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            # Each problem is sent once, not with each of its categories; as the result of a task, because Dask computes
            # it again if it dies with its worker. Scattered data would be lost.
            numbers = dict.fromkeys(number for number, _ in tasks)
            posed = {
                number: client.submit(_unpack, pickle.dumps(problems[number]), __version__, pure=False)
                for number in numbers
            }
            work = as_completed(  # type: ignore[no-untyped-call]
                [client.submit(_tune, task, posed[task[0]], threads[task[0]], pure=False) for task in tasks],
                loop=client.loop,
            )
            for future in work:
                result = future.result()
                future.release()  # or Dask would compute it again if its worker died now
                yield result
        except ImportError as error:
            raise CxrCftError(f"a worker of {address} lacks what this needs: {_line(error)}") from error
        except KilledWorker as error:
            raise CxrCftError(f"the cluster {address} lost several workers at the same category: {error}") from error
        # No worker came (no OSError before Python 3.11), the scheduler is gone, or a worker does not see the features.
        except (OSError, asyncio.TimeoutError, CancelledError) as error:
            raise CxrCftError(f"the cluster {address} cannot be used: {_line(error)}") from error


def _unpack(problem: bytes, version: str) -> Problem:
    """On a worker: the scheduler reads what tasks are given, and may neither see the features nor have the memory."""
    if version != __version__:
        raise CxrCftError(f"a worker has cxr-cft {__version__}, but {version} asks it; install the same everywhere")
    unpacked: Problem = pickle.loads(problem)  # noqa: S301 (the caller's own, by way of the cluster)
    return unpacked


def _tune(task: Task, problem: Problem, threads: int) -> tuple[Task, Tuned]:
    """What a worker does."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return task, tune_category(problem, task[1])
    finally:
        torch.set_num_threads(before)


def _is_address(address: str) -> bool:
    """Whether Dask can make something of it; its Client does not go quietly when it cannot."""
    try:
        parts = urlsplit(address)
        return parts.scheme in ("tcp", "tls", "ws", "wss") and bool(parts.hostname and parts.port)
    except ValueError:
        return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
