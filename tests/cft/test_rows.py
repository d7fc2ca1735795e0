"""A category's known rows are read from any kind of array, a piece at a time, and never all at once."""

import pickle

import numpy as np
import pytest
import torch

from cxr_cft.cft import rows
from cxr_cft.cft.rows import Rows, as_floats, checked_rows, pieces

CPU = torch.device("cpu")


def made(number=40, categories=3, dimension=5, deep=False, seed=0):
    """Features of halves, which every dtype holds exactly, and labels of which some are unknown."""
    rng = np.random.default_rng(seed)
    shape = (number, categories, dimension) if deep else (number, dimension)
    return rng.integers(-9, 9, shape) / 2, rng.choice([0.0, 1.0, np.nan], (number, categories))


def mapped(folder, features, dtype=np.float32):
    """The same features in a file that is open for reading alone."""
    np.save(folder / "features.npy", features.astype(dtype))
    return np.load(folder / "features.npy", mmap_mode="r")


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16", "numpy", "numpy half", "mapped", "mapped half"])
def stored(request, tmp_path):
    """A function that stores features in one of the ways that they may come."""

    def store(features):
        kind = request.param
        if kind.startswith("numpy"):
            return features.astype(np.float16 if "half" in kind else np.float64)
        if kind.startswith("mapped"):
            return mapped(tmp_path, features, np.float16 if "half" in kind else np.float32)
        return torch.from_numpy(features).to(getattr(torch, kind))

    return store


@pytest.mark.parametrize("deep", [False, True], ids=["shared", "own"])
def test_a_categorys_rows_come_as_float32_from_whatever_holds_them(stored, deep):
    features, labels = made(deep=deep)
    split = checked_rows("train", (stored(features), labels), (3, 5))
    for category in range(3):
        known = split.known(category)
        gathered = split.of(category, known, CPU)
        assert gathered.dtype == torch.float32
        expected = features[~np.isnan(labels[:, category])]
        np.testing.assert_array_equal(gathered, expected[:, category] if deep else expected)


def test_what_is_gathered_may_be_written_to_without_changing_what_it_was_gathered_from(stored):
    features, labels = made()
    split = Rows(stored(features), labels)
    split.of(0, np.arange(40), CPU).zero_()
    np.testing.assert_array_equal(split.of(0, np.arange(40), CPU), features)


@pytest.mark.parametrize("deep", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("size", [1, 20, 60, 61, 1000])
def test_gathering_in_pieces_gives_what_gathering_at_once_does(stored, deep, size, monkeypatch):
    features, labels = made(deep=deep)
    split = Rows(stored(features), labels)
    index = np.array([3, 3, 39, 0, 17, 22, 21])
    whole = split.of(1, index, CPU)
    monkeypatch.setattr(rows, "CHUNK_BYTES", size)
    assert len(pieces(7, 5)) > 1 or size == 1000
    assert split.of(1, index, CPU).equal(whole)


@pytest.mark.parametrize("number", [0, 1, 16, 17])
@pytest.mark.parametrize("width", [1, 4, 8, 16])
def test_pieces_cover_every_row_once_and_are_no_larger_than_they_may_be(number, width, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_BYTES", 64)
    cuts = pieces(number, width)
    assert [row for start, stop in cuts for row in range(start, stop)] == list(range(number))
    assert all((stop - start) * 4 * width <= 64 for start, stop in cuts)
    if width == 16:
        monkeypatch.setattr(rows, "CHUNK_BYTES", 1)  # a row is the least there is
        assert pieces(number, width) == cuts


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", "<f8", "i2", ">i4", "u1", "bool"])
def test_numpys_other_real_dtypes_are_read_too(dtype):
    features, labels = made()
    stored = np.abs(features * 2).astype(dtype)
    split = checked_rows("train", (stored, labels), (3, 5))
    assert split.features is stored
    np.testing.assert_array_equal(split.of(0, np.arange(40), CPU), stored.astype(np.float32))


def test_no_known_row_is_no_row():
    features, labels = made()
    labels[:, 1] = np.nan
    split = Rows(features, labels)
    assert split.known(1).shape == (0,)
    assert split.of(1, split.known(1), CPU).shape == (0, 5)


def test_known_rows_are_those_with_a_label_of_the_category():
    labels = np.array([[1, np.nan], [np.nan, 0], [0, 1]])
    assert Rows(np.zeros((3, 2)), labels).known(0).tolist() == [0, 2]
    assert Rows(np.zeros((3, 2)), labels).known(1).tolist() == [1, 2]


class Counting(np.memmap):
    """A memory map that notes how many numbers are taken from it at a time."""

    taken = 0

    def __getitem__(self, index):
        part = np.asarray(self).__getitem__(index)
        Counting.taken = max(Counting.taken, part.size)
        return part

    def __array__(self, *arguments, **options):
        raise AssertionError("the whole of the memory map is asked for")


@pytest.mark.parametrize("deep", [False, True], ids=["shared", "own"])
def test_a_memory_map_is_never_read_as_a_whole(deep, tmp_path, monkeypatch):
    features, labels = made(400, deep=deep)
    features.astype(np.float32).tofile(tmp_path / "raw")
    held = Counting(tmp_path / "raw", dtype=np.float32, mode="r", shape=features.shape)
    monkeypatch.setattr(rows, "CHUNK_BYTES", 4 * features[0].size * 10)
    monkeypatch.setattr(Counting, "taken", 0)
    split = checked_rows("train", (held, labels), (3, 5))
    assert split.features is held
    split.of(2, split.known(2), CPU)
    assert 0 < Counting.taken <= features[0].size * 10


def test_tensors_and_arrays_are_taken_as_they_are_without_a_copy():
    features, labels = made()
    assert checked_rows("train", (features, labels), (3, 5)).features is features
    tensor = torch.from_numpy(features).float().requires_grad_()
    held = checked_rows("train", (tensor, labels), (3, 5)).features
    assert held.data_ptr() == tensor.data_ptr()
    assert not held.requires_grad


@pytest.mark.parametrize(
    "labels",
    [
        np.float32([[1, 0], [np.nan, 1]]),
        torch.tensor([[1, 0], [np.nan, 1]], dtype=torch.bfloat16),
        [[1, 0], [np.nan, 1]],
    ],
    ids=["numpy", "bfloat16", "lists"],
)
def test_labels_become_float64(labels):
    held = checked_rows("valid", (np.zeros((2, 4)), labels), (2, 4)).labels
    assert held.dtype == np.float64
    np.testing.assert_array_equal(held, [[1, 0], [np.nan, 1]])


def test_a_tensor_that_has_a_gradient_is_read_without_it():
    np.testing.assert_array_equal(as_floats(torch.nn.Parameter(torch.tensor([1.5]))), [1.5])


# On the way to another process


def test_a_memory_map_travels_as_the_place_where_it_lies(tmp_path):
    features, labels = made(4000)
    split = Rows(mapped(tmp_path, features), labels[:10])
    sent = pickle.dumps(split)
    assert len(sent) < 2000 < features.nbytes
    received = pickle.loads(sent)
    assert isinstance(received.features, np.memmap)
    assert received.features.mode == "r"
    np.testing.assert_array_equal(received.features, features)
    np.testing.assert_array_equal(received.labels, labels[:10])


def test_a_memory_map_that_begins_within_its_file_is_found_there(tmp_path):
    features, labels = made(deep=True)
    (tmp_path / "raw").write_bytes(b"header" * 5 + features.astype(np.float16).tobytes())
    held = np.memmap(tmp_path / "raw", np.float16, "r", offset=30, shape=features.shape)
    received = pickle.loads(pickle.dumps(Rows(held, labels)))
    assert received.features.dtype == np.float16
    np.testing.assert_array_equal(received.features, features)


@pytest.mark.parametrize(
    "part",
    [
        lambda held: held[7:],
        lambda held: held[::2],
        lambda held: held[:, 1:],
        lambda held: held[[5, 1, 8]],
        lambda held: held.T,
        lambda held: held.reshape(-1, 10),
        lambda held: held + 1,
    ],
    ids=["later rows", "every other row", "some columns", "chosen rows", "turned", "reshaped", "computed"],
)
def test_a_part_of_a_memory_map_travels_as_what_it_holds(tmp_path, part):
    held = part(mapped(tmp_path, made()[0]))
    expected = np.array(held)
    (tmp_path / "features.npy").unlink()
    received = pickle.loads(pickle.dumps(Rows(held, np.zeros((1, 1)))))
    np.testing.assert_array_equal(received.features, expected)


def test_a_memory_map_in_another_order_travels_as_what_it_holds(tmp_path):
    features, labels = made()
    np.save(tmp_path / "turned.npy", np.asfortranarray(features))
    held = np.load(tmp_path / "turned.npy", mmap_mode="r")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(Rows(held, labels))).features, features)


def test_changes_that_are_not_in_the_file_travel_too(tmp_path):
    features, labels = made()
    mapped(tmp_path, features)
    held = np.load(tmp_path / "features.npy", mmap_mode="c")
    held[0] = 99
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(Rows(held, labels))).features, held)


def test_arrays_and_tensors_travel_as_they_are():
    features, labels = made()
    for held in (features, torch.from_numpy(features).bfloat16()):
        received = pickle.loads(pickle.dumps(Rows(held, labels)))
        assert (type(received.features), received.features.dtype) == (type(held), held.dtype)
        np.testing.assert_array_equal(as_floats(received.features), features)
        np.testing.assert_array_equal(received.labels, labels)


# Mistakes


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 13, 14, 39])
def test_a_number_that_is_not_finite_is_found_wherever_it_is(stored, value, place, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_BYTES", 4 * 5 * 7)  # seven rows
    features, labels = made()
    features[place, place % 5] = value
    with pytest.raises(ValueError, match="valid features must be finite"):
        checked_rows("valid", (stored(features), labels), (3, 5))


def test_it_is_found_among_features_of_each_categorys_own_too(stored):
    features, labels = made(deep=True)
    features[5, 2, 1] = np.nan
    with pytest.raises(ValueError, match="train features must be finite"):
        checked_rows("train", (stored(features), labels), (3, 5))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ((40, 4), (40, 3), r"train features must be \(N, 5\) or \(N, 3, 5\), but their shape is \(40, 4\)"),
        ((40,), (40, 3), r"their shape is \(40,\)"),
        ((40, 2, 5), (40, 3), r"their shape is \(40, 2, 5\)"),
        ((40, 3, 5, 1), (40, 3), r"their shape is \(40, 3, 5, 1\)"),
        ((40, 5), (39, 3), r"train labels must be \(40, 3\), but their shape is \(39, 3\)"),
        ((40, 5), (40,), r"train labels must be \(40, 3\), but their shape is \(40,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_what_would(features, labels, message):
    with pytest.raises(ValueError, match=message):
        checked_rows("train", (np.zeros(features), np.zeros(labels)), (3, 5))


@pytest.mark.parametrize("value", [-1, 0.5, 2, np.inf])
def test_a_label_that_is_neither_known_nor_unknown_is_refused(value):
    features, labels = made()
    labels[39, 2] = value
    with pytest.raises(ValueError, match="train labels must be 1, 0 or nan for unknown"):
        checked_rows("train", (features, labels), (3, 5))
