"""The made hidden set is what it says: as nasty as can be, known in every view, and the same every time."""

import csv
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_cft.data.images import read_image
from cxr_cft.data.studies import study_of
from cxr_cft.submission.rehearsal import hidden
from cxr_cft.submission.rehearsal.hidden import ROOT, Sizes, make_hidden, make_plain

SMALL = Sizes(full=(232, 283), giant=2000, broad=900)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_hidden(tmp_path_factory.mktemp("hidden") / "set", SMALL)


def file_of(asked, view):
    """Where a view's image would lie, on the server or anywhere."""
    return asked.csv.parent / view


def kinds(asked):
    """Formats and modes of the images that can be read by Pillow."""
    found = set()
    for file in asked.files.values():
        if file.suffix != ".dcm":
            with Image.open(file) as image:
                found.add((image.format, image.mode))
    return found


def test_the_same_bytes_come_out_each_time(made, tmp_path):
    again = make_hidden(tmp_path / "set", SMALL)
    here, there = made.csv.parent, again.csv.parent
    files = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file() and path != made.csv)
    assert files == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file() and path != again.csv)
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in files)
    # Absolute paths are those of the folder.
    assert made.csv.read_bytes().replace(str(here).encode(), str(there).encode()) == again.csv.read_bytes()


def test_the_csv_is_as_nasty_as_a_csv_can_be(made):
    raw = made.csv.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\r\n\r\n" in raw
    assert b"\n" not in raw.replace(b"\r\n", b"")
    rows = [row for row in csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline="")) if row]
    assert rows[0].index("Path") == 1
    assert {len(row) for row in rows} == {len(rows[0])}
    paths = [row[1] for row in rows[1:] if row[1]]
    assert list(dict.fromkeys(paths)) == list(made.views)
    assert len(paths) > len(made.views)  # some are there twice
    assert paths[-1] == paths[0]  # and far from each other
    assert len(paths) < len(rows) - 1  # a row without a path
    for sign in (" ", "é", "患", ",", '"', "'", "#", "%"):
        assert any(sign in path for path in paths), sign
    assert any(Path(path).is_absolute() for path in paths)
    assert any(path.startswith("./") for path in paths)


def test_every_kind_of_image_is_there(made):
    wanted = {("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "L"), ("TIFF", "I;16"), ("TIFF", "RGB")}
    wanted |= {("PNG", mode) for mode in ("L", "1", "LA", "P", "RGB", "RGBA", "I;16")}
    assert wanted <= kinds(made)
    opened = [Image.open(file) for file in made.files.values() if file.suffix != ".dcm"]
    assert any(image.info.get("progressive") for image in opened)
    assert any(image.getexif().get(0x0112) == 6 for image in opened)
    sizes = {image.size for image in opened}
    assert {(1, 1), (1, 500), (500, 1), SMALL.full, (SMALL.giant, 600), (600, SMALL.giant)} <= sizes
    for image in opened:
        image.close()


def test_the_full_set_has_sides_of_20_000_pixels_and_more_pixels_than_pillow_opens_unasked():
    sizes = Sizes()
    assert sizes.giant == 20_000
    assert sizes.giant * sizes.broad > 2 * (Image.MAX_IMAGE_PIXELS or 0)


def test_what_can_be_read_can_be_read_and_what_cannot_cannot(made):
    for view in made.views:
        if view in made.files:
            assert read_image(made.files[view], 32).any(), view
        else:
            with pytest.raises(OSError, match=r"."):
                read_image(file_of(made, view), 32)


def test_every_fault_is_met_alone_and_beside_a_good_view(made):
    assert len(made.unreadable) > 10
    lost = set(made.lost)
    assert lost == {study_of(view) for view in made.unreadable} - {study_of(view) for view in made.files}
    beside = {study_of(view) for view in made.unreadable} & {study_of(view) for view in made.files}
    assert len(beside) == 6
    assert {Path(study).name.removesuffix(", and a good one") for study in beside} <= {
        Path(study).name for study in lost
    }


def test_a_dicom_can_be_read_where_pydicom_is(made, tmp_path, monkeypatch):
    [dicom] = [view for view in made.views if view.endswith(".dcm")]
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    assert dicom in made.files
    read = pydicom.dcmread(made.files[dicom])
    assert read.PhotometricInterpretation == "MONOCHROME1"
    upright = np.asarray(hidden._chest(made_number(made, dicom), lateral=False)).astype(int) * 16
    assert np.array_equal(4095 - read.pixel_array.astype(int), upright)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(hidden, "find_spec", lambda _: None)
    assert dicom in make_hidden(tmp_path / "set", SMALL).unreadable


def made_number(asked, view):
    """Which phantom a view shows."""
    return asked.studies.index(study_of(view)) % 4


def test_plain_views_lie_under_fewer_folders_than_their_paths_say(tmp_path):
    asked = make_plain(tmp_path, 6, SMALL)
    assert len(asked.studies) == len(asked.views) == 6
    assert asked.csv.read_text().splitlines() == ["Path", *asked.views]
    assert not any(file_of(asked, view).exists() for view in asked.views)
    for view, file in asked.files.items():
        assert view.endswith(file.relative_to(asked.shown[ROOT].parent).as_posix())
        with Image.open(file) as image:
            assert (image.format, image.size) == ("JPEG", SMALL.full)
