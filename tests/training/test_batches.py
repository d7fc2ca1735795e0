"""Who learns from what in which step: each row once an epoch, however many processes and parts share the steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_cft.training.batches import StepBatches, balanced_odds

SHAPES = {
    "rows": st.integers(1, 40),
    "batch_size": st.integers(1, 17),
    "parts": st.integers(1, 4),
    "processes": st.integers(1, 4),
    "seed": st.integers(0, 9),
    "epoch": st.integers(0, 5),
}


def together(rows, batch_size, parts, processes, seed, epoch, odds=None):
    """The batches of all processes in an epoch."""
    found = [
        StepBatches(rows, batch_size, seed, parts=parts, process=process, processes=processes, odds=odds)
        for process in range(processes)
    ]
    for each in found:
        each.epoch = epoch
    return found


@settings(deadline=None)
@given(**SHAPES)
def test_every_row_comes_once_an_epoch_over_all_processes_and_parts(rows, batch_size, parts, processes, seed, epoch):
    all_batches = together(rows, batch_size, parts, processes, seed, epoch)
    steps = all_batches[0].steps
    sizes = [len(all_batches[0].of_step(step)) for step in range(steps)]
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] <= batch_size + 1
    shares = [each.share(step, part) for each in all_batches for step in range(steps) for part in range(parts)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(rows))


@pytest.mark.parametrize(
    ("rows", "sizes"), [(6, [3, 3]), (8, [3, 3, 2]), (7, [3, 4]), (4, [4]), (3, [3]), (1, [1]), (2, [2])]
)
def test_a_single_row_that_would_be_left_joins_the_step_before(rows, sizes):
    batches = StepBatches(rows, 3, seed=0)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)


@settings(deadline=None)
@given(**SHAPES)
def test_what_a_step_learns_from_does_not_depend_on_who_computes_it(rows, batch_size, parts, processes, seed, epoch):
    alone = together(rows, batch_size, 1, 1, seed, epoch)[0]
    all_batches = together(rows, batch_size, parts, processes, seed, epoch)
    batches = [list(each) for each in all_batches]
    for step, expected in enumerate(alone):
        found = []
        for each, handed in zip(all_batches, batches, strict=True):
            for part in range(parts):
                if len(each.share(step, part)):
                    found += handed[step * parts + part]
        assert found == expected
        assert [row for row, _ in expected] == alone.of_step(step).tolist()
        assert [augmentation for _, augmentation in expected] == alone.seeds_of_step(step).tolist()


@settings(deadline=None)
@given(**SHAPES)
def test_all_processes_pass_over_the_network_equally_often_and_an_empty_piece_holds_a_filler(
    rows, batch_size, parts, processes, seed, epoch
):
    for each in together(rows, batch_size, parts, processes, seed, epoch):
        batches = list(each)
        assert len(batches) == len(each) == each.steps * parts
        for number, batch in enumerate(batches):
            step, part = divmod(number, parts)
            share = each.share(step, part).tolist()
            assert [row for row, _ in batch] == (share or [each.of_step(step)[0]])


@settings(deadline=None)
@given(**SHAPES)
def test_the_pieces_of_a_step_differ_by_a_row_at_most(rows, batch_size, parts, processes, seed, epoch):
    all_batches = together(rows, batch_size, parts, processes, seed, epoch)
    for step in range(all_batches[0].steps):
        sizes = [len(each.share(step, part)) for each in all_batches for part in range(parts)]
        assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(**SHAPES, begin=st.integers(0, 40))
def test_beginning_later_leaves_out_the_steps_before_and_changes_none(
    rows, batch_size, parts, processes, seed, epoch, begin
):
    each = together(rows, batch_size, parts, processes, seed, epoch)[-1]
    whole = list(each)
    each.begin = min(begin, each.steps)
    assert list(each) == whole[each.begin * parts :]
    assert len(each) == len(whole) - each.begin * parts


def test_an_epoch_and_a_seed_each_decide_the_order_and_the_augmentation():
    def drawn(seed, epoch):
        return [item for batch in together(64, 8, 1, 1, seed, epoch)[0] for item in batch]

    assert drawn(0, 1) == drawn(0, 1)
    for other in (drawn(0, 2), drawn(1, 1)):
        assert [row for row, _ in other] != [row for row, _ in drawn(0, 1)]
        assert {seed for _, seed in other}.isdisjoint(seed for _, seed in drawn(0, 1))


def test_going_back_to_an_epoch_gives_its_order_again():
    each = together(64, 8, 1, 1, 0, 0)[0]
    first = list(each)
    each.epoch = 1
    assert list(each) != first
    each.epoch = 0
    assert list(each) == first


def test_with_odds_rows_come_as_often_as_these_say():
    odds = np.array([0.0, 0.1, 0.2, 0.7])
    counts = np.zeros(4)
    for epoch in range(500):
        each = together(4, 2, 2, 2, 0, epoch, odds)
        drawn = np.concatenate([b.share(step, part) for b in each for step in range(2) for part in range(2)])
        assert len(drawn) == 4
        counts += np.bincount(drawn, minlength=4)
    assert counts[0] == 0
    np.testing.assert_allclose(counts / 2000, odds, atol=0.05)


# ---- balanced odds


def test_balanced_odds_are_those_of_a_hand_computed_example():
    targets = np.array([[1, 1], [0, 1], [0, 0], [0, 1]], dtype=np.float32)
    mask = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], dtype=np.float32)
    # The first category: its only positive takes 1/4, each of three negatives 1/12; the second: two positives 1/8 each,
    # its only negative 1/4; the last view counts for the first category alone.
    expected = [1 / 4 + 1 / 8, 1 / 12 + 1 / 8, 1 / 12 + 1 / 4, 1 / 12]
    np.testing.assert_allclose(balanced_odds(targets, mask), expected, rtol=1e-12)


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 4))
def test_each_class_of_each_category_comes_equally_often_where_categories_share_no_view(counts):
    classes = [(0, 1.0), (0, 0.0), (1, 1.0), (1, 0.0)]
    groups = np.repeat(np.arange(4), counts)
    targets, mask = np.zeros((len(groups), 2), np.float32), np.zeros((len(groups), 2), np.float32)
    for group, (category, target) in enumerate(classes):
        targets[groups == group, category] = target
        mask[groups == group, category] = 1
    chances = np.bincount(groups, weights=balanced_odds(targets, mask))
    np.testing.assert_allclose(chances, 1 / 4, rtol=1e-9)


def test_a_target_between_the_classes_belongs_to_the_nearer_one():
    targets = np.array([[0.7], [0.5], [0.3], [0.0], [0.1]], dtype=np.float32)
    np.testing.assert_allclose(balanced_odds(targets, np.ones_like(targets)), [1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6])


def test_a_view_of_which_nothing_counts_is_never_drawn_and_a_class_without_views_takes_nothing():
    targets = np.array([[1], [1], [1]], dtype=np.float32)
    odds = balanced_odds(targets, np.array([[1], [0], [1]], dtype=np.float32))
    assert odds.tolist() == pytest.approx([0.5, 0.0, 0.5])
