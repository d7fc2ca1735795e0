"""A cluster gives what this machine would give, to the last bit, and whatever goes wrong with it is told in a line."""

import json
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

import pytest

from cxr_cft import __version__
from cxr_cft.artifacts import open_run
from cxr_cft.cft import cluster, tune_runs
from cxr_cft.cli import main as cli
from cxr_cft.errors import CxrCftError
from cxr_cft.progress import Silent

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

NOWHERE = "127.0.0.1:0"  # a free port of this machine, for the dashboard that nobody looks at


@pytest.fixture(scope="module")
def workers():
    """A scheduler and two worker processes on this machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=NOWHERE, silence_logs=50
    ) as made:
        yield made


@pytest.fixture
def two(run, tmp_path, with_settings):
    """Two runs of different settings, and copies of them that are tuned here."""
    first = with_settings(run, "cft", generations=20)
    second = with_settings(open_run(shutil.copytree(run.path, tmp_path / "weights" / "second")), "cft", methods=["asl"])
    here = [open_run(shutil.copytree(each.path, tmp_path / "here" / each.name)) for each in (first, second)]
    for _ in tune_runs(here):
        pass
    return [first, second], here


def on_cluster(runs, workers, **options):
    return list(tune_runs(runs, cluster=workers.scheduler_address, **options))


def test_runs_come_out_of_a_cluster_as_they_come_out_of_this_machine(two, workers, outcome, monkeypatch):
    runs, here = two
    monkeypatch.setattr("cxr_cft.cft.tune.tune_category", None)
    results = on_cluster(runs, workers)
    assert [run for run, _ in results] == runs
    assert [outcome(run) for run in runs] == [outcome(run) for run in here]
    for (_, result), run in zip(results, here, strict=True):
        assert list(result.report["category"]) == list(run.categories)


def test_one_run_by_the_command_and_a_second_time_without_work(two, workers, outcome, capsys, monkeypatch):
    (run, _), (here, _) = two
    monkeypatch.chdir(run.path.parent)  # where workers are not
    command = ["cft", run.name, "--weights", ".", "--cluster", workers.scheduler_address, "--json"]
    assert cli.run(command) == 0
    first = capsys.readouterr().out
    assert json.loads(first) == {run.name: json.loads((run.path / "cft.json").read_text())}
    assert outcome(run) == outcome(here)
    monkeypatch.setattr(cluster, "_tune", None)
    assert cli.run(command) == 0
    assert capsys.readouterr().out == first


def test_categories_that_are_done_are_not_sent_and_an_interrupted_cluster_keeps_them(two, workers, outcome):
    class Interrupted(Silent):
        def track(self, items, *_):
            for done, item in enumerate(items):
                if done == 3:
                    raise KeyboardInterrupt
                yield item

    class Counted(Silent):
        def track(self, items, description, total, *_):
            totals.append((description, total))
            yield from items

    runs, here = two
    with pytest.raises(KeyboardInterrupt):
        on_cluster(runs, workers, progress=Interrupted())
    assert len([path for run in runs for path in run.path.glob("cft/*")]) == 3  # of one run or of both, as they came
    assert all(run.tuned() is None for run in runs)
    totals = []
    on_cluster(runs, workers, progress=Counted())
    assert totals == [("fine-tuning", 5)]
    assert [outcome(run) for run in runs] == [outcome(run) for run in here]


@pytest.mark.parametrize("deaths", [1, 2])
def test_workers_killed_in_the_middle_of_a_category_cost_time_not_the_result(
    two, workers, outcome, tmp_path, monkeypatch, deaths
):
    tune = cluster._tune
    marks = [tmp_path / f"death {number}" for number in range(deaths)]

    def deadly(*task):
        for mark in marks:
            try:
                mark.mkdir()
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        return tune(*task)

    monkeypatch.setattr(cluster, "_tune", deadly)
    runs, here = two
    on_cluster(runs[:1], workers)
    assert all(mark.exists() for mark in marks)
    assert outcome(runs[0]) == outcome(here[0])


# ---- one line for what goes wrong


def refusal(run, address, capsys):
    assert cli.run(["cft", str(run.path), "--cluster", address]) == 1
    told = capsys.readouterr()
    assert not told.out
    (line,) = told.err.splitlines()
    return line


def test_a_category_that_kills_every_worker_is_told_of(run, workers, capsys, monkeypatch):
    monkeypatch.setattr(workers.scheduler, "allowed_failures", 0)
    monkeypatch.setattr(cluster, "_tune", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    line = refusal(run, workers.scheduler_address, capsys)
    assert line.startswith(f"error: the cluster {workers.scheduler_address} lost several workers at the same category")


def test_what_a_worker_says_arrives_as_it_was_said(run, workers, capsys, monkeypatch):
    def refusing(*_):
        raise CxrCftError("the worker has no room")

    monkeypatch.setattr(cluster, "_tune", refusing)
    assert refusal(run, workers.scheduler_address, capsys) == "error: the worker has no room"


def test_a_worker_of_another_version_refuses_the_work():
    packed = pickle.dumps("a problem")
    assert cluster._unpack(packed, __version__) == "a problem"
    with pytest.raises(CxrCftError, match=f"a worker has cxr-cft {__version__}, but 0.0.0 asks it"):
        cluster._unpack(packed, "0.0.0")


def test_features_that_workers_do_not_see_are_named(run, workers, capsys, monkeypatch):
    submit = distributed.Client.submit

    def without_features(client, *arguments, **options):
        shutil.rmtree(run.path / "features", ignore_errors=True)
        return submit(client, *arguments, **options)

    monkeypatch.setattr(distributed.Client, "submit", without_features)
    line = refusal(run, workers.scheduler_address, capsys)
    assert "cannot be used: [Errno 2] No such file or directory" in line
    assert str(run.path / "features") in line


def test_a_scheduler_without_workers_and_one_that_does_not_answer_are_told_of(run, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address=NOWHERE) as empty:
        address = empty.scheduler_address
        assert refusal(run, address, capsys).startswith(
            f"error: the cluster {address} cannot be used: Only 0/1 workers"
        )
    assert refusal(run, address, capsys).startswith(f"error: the cluster {address} cannot be used: Timed out")


def test_a_scheduler_that_is_lost_costs_what_was_not_done_and_is_told_of(run, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)

    class Losing(Silent):
        def track(self, items, description, *_):
            for item in items:
                yield item
                if description == "fine-tuning":
                    lone.sync(lone.scheduler.close)

    lost = r"^the cluster .* cannot be used: .*lost the connection to the scheduler"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),  # what the rest of the cluster waits at its end
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=NOWHERE, silence_logs=50
        ) as lone,
        pytest.raises(CxrCftError, match=lost),
    ):
        on_cluster([run], lone, progress=Losing())
    assert len(list((run.path / "cft").glob("????.safetensors"))) == 1


@pytest.mark.parametrize(
    "address", ["", "here", "127.0.0.1", "127.0.0.1:8786", "tcp://", "tcp://:1", "tcp://a:port", "http://a:1"]
)
def test_what_is_no_address_is_not_tried(run, capsys, address):
    assert (
        refusal(run, address, capsys)
        == f"error: '{address}' is no address of a Dask scheduler; give one like tcp://HOST:PORT"
    )


def test_without_dask_its_extra_is_named(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = refusal(run, "tcp://127.0.0.1:1", capsys)
    assert line == "error: a cluster needs Dask; install it with `pip install 'cxr-cft[cluster]'`"
    assert cli.run(["cft", str(run.path), "--method", "bce"]) == 0


def test_the_extra_that_is_named_is_there():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'cluster = ["distributed' in project
