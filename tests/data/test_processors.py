"""The processors of this process: as many as its affinity and its container's share of time allow."""

import os

import pytest

from cxr_cft.data import processors as module
from cxr_cft.data.processors import processors


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes a machine of so many processors, of whose time there is such a share."""

    def machine(allowed, share=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
        monkeypatch.setattr(module, "CGROUPS", tmp_path)
        (tmp_path / "cpu").mkdir(exist_ok=True)
        if share is not None:
            (tmp_path / "cpu.max").write_text(share)

    return machine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400000 100000\n", 4),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("max 100000\n", 16),
        ("6400000 100000\n", 16),
        ("", 16),
        ("400000 0\n", 16),
    ],
)
def test_a_containers_share_of_time_counts_where_it_is_less_than_its_processors(machine, text, expected):
    machine(16, text)
    assert processors() == expected


@pytest.mark.parametrize(("quota", "expected"), [("200000\n", 2), ("-1\n", 16)])
def test_the_older_control_groups_count_likewise(machine, tmp_path, quota, expected):
    machine(16)
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processors() == expected


def test_without_control_groups_the_affinity_counts_and_without_it_all(machine, monkeypatch):
    machine(3)
    assert processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1
