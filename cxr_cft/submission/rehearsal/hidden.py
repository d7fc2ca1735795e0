"""A made hidden set, as nasty as a hospital's archive and a stranger's CSV can be; the same bytes every time."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_cft.data.phantoms.dataset import draw_studies, render
from cxr_cft.submission.rehearsal.asked import Asked

FULL = (2320, 2828)  # width and height of a CheXpert image in full resolution (the most frequent; assumed)
GIANT = 20_000  # pixels of the longest sides
BROAD = 9_500  # pixels of the other side of the largest image: 190 million, more than Pillow opens unasked
DRAWN = 320  # pixels of a phantom's short side before it is enlarged: drawing a full one takes 3 s (measured)
GRAIN = 6.0  # standard deviation of the noise that gives an enlarged phantom a radiograph's bytes (about 1.5 MB)
QUALITY = 90
ROOT = "CheXpert-v1.0"  # what the server calls the data
MOVED = "mnt/archive/of 2019"  # leading folders of a CSV from elsewhere, which are to be dropped

Save: TypeAlias = Callable[[Image.Image, Path], object]


@dataclass(frozen=True)
class Sizes:
    """How large the made images are; tests make do with small ones."""

    full: tuple[int, int] = FULL
    giant: int = GIANT
    broad: int = BROAD


def make_hidden(folder: Path, sizes: Sizes) -> Asked:
    """Write the set below the new folder `folder`: a CSV, and images of every kind and fault."""
    images, away = folder / ROOT, folder / "other disk"
    views: list[tuple[str, str, Path, bool]] = []  # path, word, file, whether it can be read
    for number, (study, kinds) in enumerate(_studies(sizes).items()):
        for name, word, write, readable in kinds:
            path = f"{ROOT}/test/{study}/{name}"
            file = folder / path
            if study.startswith("absolute"):
                file = away / study / name
                path = str(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            if write is not None:
                write(_chest(number % 4, "lateral" in word.lower()), file)
            views.append((path, word, file, readable))
    views += [
        (path, word, file, readable)
        for path, word, file, readable in _other_spellings(f"{ROOT}/test", views[0][2], views[-1][2])
    ]
    csv = folder / "hidden set, été.csv"
    csv.write_bytes(_nasty_csv([(path, word) for path, word, _, _ in views]))
    files = {path: file for path, _, file, readable in views if readable}
    return Asked(csv, tuple(v[0] for v in views), tuple(v[1] for v in views), files, {ROOT: images})


def make_plain(folder: Path, views: int, sizes: Sizes) -> Asked:
    """Write a CSV of so many frontal views in full resolution, each its own study, whose leading folders are gone.

    What takes time on the server is these. There are four pictures, under as many names as are asked for.
    """
    pictures = [_bytes_of(_full(_chest(number, False), sizes), "JPEG", quality=QUALITY) for number in range(4)]
    files = {}
    for number in range(views):
        path = f"{ROOT}/test/patient{64741 + number}/study1/view1_frontal.jpg"  # CheXpert's first test patient
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pictures[number % len(pictures)])
        files[f"{MOVED}/{path}"] = file
    csv = folder / f"plain-{views}.csv"
    csv.write_text("".join(f"{line}\n" for line in ("Path", *files)), encoding="utf-8")
    return Asked(csv, tuple(files), ("",) * len(files), files, {ROOT: folder / ROOT})


Kind: TypeAlias = tuple[str, str, Save | None, bool]
"""A view's file name, the CSV's word for it, what writes it (None where nothing is there), whether it can be read."""


def _studies(sizes: Sizes) -> dict[str, list[Kind]]:
    """The studies by name, most of one view: in a study of several, the highest would hide what the others become."""

    def full(image: Image.Image, file: Path) -> None:
        _full(image, sizes).save(file, "JPEG", quality=QUALITY)

    def cut(image: Image.Image, file: Path) -> None:
        whole = _bytes_of(_full(image, sizes), "JPEG", quality=QUALITY)
        file.write_bytes(whole[: len(whole) // 2])

    good: dict[str, tuple[str, Save]] = {
        "patient64741/study1": ("view1_frontal.jpg", full),
        "patient64742/progressive": (
            "view1.JPG",
            lambda image, file: _full(image, sizes).save(file, "JPEG", quality=QUALITY, progressive=True),
        ),
        "patient64743/grey 8": ("view1.png", _save("PNG")),
        "patient64743/grey 16": ("view1.png", _deep("PNG")),
        "patient64743/grey 1": ("view1.png", _save("PNG", "1")),
        "patient64743/RGB": ("view1.png", _save("PNG", "RGB")),
        "patient64743/RGBA": ("view1.png", _save("PNG", "RGBA")),
        "patient64743/grey and alpha": ("view1.png", _save("PNG", "LA")),
        "patient64743/palette": ("view1.png", _save("PNG", "P")),
        "patient64744/grey 8": ("view1.tif", _save("TIFF")),
        "patient64744/grey 16": ("view1.tiff", _deep("TIFF")),
        "patient64744/compressed": ("view1.tiff", _save("TIFF", compression="tiff_lzw")),
        "patient64744/RGB": ("view1.tif", _save("TIFF", "RGB")),
        "patient64745/RGB": ("view1.jpg", _save("JPEG", "RGB")),
        "patient64745/CMYK": ("view1.jpg", _save("JPEG", "CMYK")),
        "patient64745/turned": ("view1.jpg", _turned),
        "patient64746/one pixel": ("view1.png", _sized((1, 1))),
        "patient64746/one pixel wide": ("view1.png", _sized((1, 500))),
        "patient64746/one pixel high": ("view1.jpg", _sized((500, 1))),
        "patient64747/long": ("view1.png", _sized((sizes.giant, 600))),
        "patient64747/high": ("view1.jpg", _sized((600, sizes.giant))),
        "patient64747/huge": ("view1.jpg", _sized((sizes.giant, sizes.broad))),
        "patient64748/a PNG by another name": ("view1.jpg", _save("PNG")),
        "patient 64749/étude n° 1": ("vue 1 de face.png", _save("PNG")),
        "患者64750/検査1": ("正面.png", _save("PNG")),
        'patient "64751", the second/study,1': ("view, one.png", _save("PNG")),
        "-patient64752/100 %/#1; a=b & c": ("view'1'.png", _save("PNG")),
        "absolute patient/étude": ("view1.png", _save("PNG")),
    }
    broken: dict[str, tuple[str, Save | None]] = {
        "cut": ("view1_frontal.jpg", cut),
        "cut in its head": ("view1.png", lambda image, file: file.write_bytes(_bytes_of(image, "PNG")[:30])),
        "empty": ("view1.jpg", lambda _, file: file.write_bytes(b"")),
        "text": ("view1.jpg", lambda _, file: file.write_text("<html>404</html>", encoding="utf-8")),
        "a folder": ("view1.jpg", lambda _, file: file.mkdir()),
        "missing": ("vue 1 disparue.jpg", None),
    }
    studies: dict[str, list[Kind]] = {study: [(name, "", save, True)] for study, (name, save) in good.items()}
    studies["patient64741/study1"].append(("view2_lateral.jpg", "LATERAL", full, True))
    studies["patient64753/MONOCHROME1"] = [("view1.dcm", "Frontal", _dicom, find_spec("pydicom") is not None)]
    for study, (name, save) in broken.items():
        studies[f"patient64754/{study}"] = [(name, "Frontal", save, False)]
        studies[f"patient64755/{study}, and a good one"] = [
            (name, "Frontal", save, False),
            ("view2_lateral.png", "Lateral", _save("PNG"), True),
        ]
    studies["patient64756/no view of two"] = [
        ("view1.jpg", "", None, False),
        ("view2.jpg", "", broken["empty"][1], False),
    ]
    return studies


def _other_spellings(base: str, good: Path, missing: Path) -> Iterator[tuple[str, str, Path, bool]]:
    """The same files by other ways of writing a path: each is a study of its own, by its own name."""
    study = "patient64741/study1/view1_frontal.jpg"
    yield f"./{base}/{study}", "Frontal", good, True
    yield f"{base}/../test/{study}", "Frontal", good, True
    yield f"./{base}/patient64756/no view of two/view1.jpg", "Frontal", missing, False


def _nasty_csv(views: Sequence[tuple[str, str]]) -> bytes:
    """The rows as bytes: BOM, CRLF, quotes where needed and where not, blank lines, other columns, doubled rows."""
    lines = ['"Sex",Path,"Frontal/Lateral",Age, "AP/PA"', ""]
    for row, (path, word) in enumerate(views):
        quoted = '"' + path.replace('"', '""') + '"'
        cell = quoted if row % 3 == 0 or any(sign in path for sign in ',"') else path
        line = f'"Unknown, or other",{cell},{word},{row},AP'
        lines += [line] * (2 if row % 5 == 0 else 1) + [""] * (row % 7 == 0)
    lines += [lines[2], ",,,,", ""]
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode()


@cache
def _drawn(number: int, lateral: bool) -> NDArray[np.uint8]:
    return render(next(draw_studies(0, number, train=False)), DRAWN, lateral=lateral)


def _chest(number: int, lateral: bool) -> Image.Image:
    return Image.fromarray(_drawn(number, lateral))


def _full(image: Image.Image, sizes: Sizes) -> Image.Image:
    """The image in full resolution, with a radiograph's grain: what is smooth is decoded faster."""
    enlarged = np.asarray(image.resize(sizes.full, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = np.random.default_rng(0).standard_normal(enlarged.shape, dtype=np.float32)
    return Image.fromarray(np.clip(enlarged + GRAIN * grain, 0, 255).astype(np.uint8))


def _bytes_of(image: Image.Image, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _save(form: str, mode: str = "L", **options: str) -> Save:
    return lambda image, file: image.convert(mode).save(file, form, **options)


def _deep(form: str) -> Save:
    """12 bits of 16, as detectors have."""

    def save(image: Image.Image, file: Path) -> None:
        Image.fromarray(np.asarray(image).astype(np.uint16) * 16).save(file, form)

    return save


def _sized(size: tuple[int, int]) -> Save:
    return lambda image, file: image.resize(size, Image.Resampling.NEAREST).save(file, compress_level=1)


def _turned(image: Image.Image, file: Path) -> None:
    """Stored lying on its side, with the EXIF tag that sets it up."""
    tag = Image.Exif()
    tag[0x0112] = 6  # orientation: to be turned by 90° clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=QUALITY, exif=tag)


def _dicom(image: Image.Image, file: Path) -> None:
    """12 bits inverted (MONOCHROME1), explicit little endian; by hand, so that writing it does not need pydicom."""
    pixels = (4095 - np.asarray(image).astype("<u2") * 16).tobytes()
    cr, instance = b"1.2.840.10008.5.1.4.1.1.1", b"2.25.64753"  # computed radiography; an identifier of nobody's
    meta = (
        _element(2, 1, b"OB", b"\x00\x01")
        + _element(2, 2, b"UI", cr)
        + _element(2, 3, b"UI", instance)
        + _element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
        + _element(2, 0x12, b"UI", b"2.25.1")
    )
    numbers = {2: 1, 0x10: image.height, 0x11: image.width, 0x100: 16, 0x101: 12, 0x102: 11, 0x103: 0}
    content = [_element(8, 0x16, b"UI", cr), _element(8, 0x18, b"UI", instance), _element(8, 0x60, b"CS", b"CR")]
    content += [_element(0x28, 2, b"US", struct.pack("<H", numbers.pop(2)))]
    content += [_element(0x28, 4, b"CS", b"MONOCHROME1")]
    content += [_element(0x28, tag, b"US", struct.pack("<H", value)) for tag, value in numbers.items()]
    content += [_element(0x7FE0, 0x10, b"OW", pixels)]
    length = _element(2, 0, b"UL", struct.pack("<I", len(meta)))
    file.write_bytes(bytes(128) + b"DICM" + length + meta + b"".join(content))


def _element(group: int, tag: int, kind: bytes, value: bytes) -> bytes:
    """One element of a DICOM file; values have an even length, names end with a zero byte and words with a blank."""
    value += (b"\x00" if kind in (b"UI", b"OB") else b" ") * (len(value) % 2)
    long = kind in (b"OB", b"OW")
    return struct.pack("<HH2s" + ("xxI" if long else "H"), group, tag, kind, len(value)) + value
