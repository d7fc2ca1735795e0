"""One film in every format that a hospital may send it in; without loss all of them are the same picture."""

import io
import struct
import zlib

import numpy as np
import pydicom
from PIL import Image, ImageChops
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

Y, X = np.mgrid[0:1:40j, 0:1:56j]
FILM = np.round(255 * (0.5 + 0.28 * np.sin(3 * X + 2 * Y) - 0.22 * np.cos(4 * Y + X)))
FILM = np.round((FILM - FILM.min()) * (255 / np.ptp(FILM))).astype(np.uint8)
"""(40, 56), from 0 to 255, smooth, and no mirror image or turn of it the same."""

DEEP = FILM.astype(np.uint16) * 16
"""The film in 12 bits: spread over 0 to 255 it is the film."""


def saved(image, form, **options):
    """A file's bytes, by Pillow."""
    content = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(content, format=form, **options)
    return content.getvalue()


def png16(values, colour):
    """A PNG of 16 bits: colour type 0 grey, 4 grey and alpha, 2 RGB, 6 RGB and alpha."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">LLBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = (struct.pack(">L", len(c)) + t + c + struct.pack(">L", zlib.crc32(t + c)) for t, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(values, photometric=1, order="<", *, deflate=False):
    """A TIFF of one strip: photometric 0 is WhiteIsZero, 1 BlackIsZero, 2 RGB."""
    height, width, samples = (*values.shape, 1)[:3]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    bits = 8 * values.itemsize
    tags = {256: width, 257: height, 258: bits, 259: 8 if deflate else 1, 262: photometric, 277: samples, 278: height}
    after = 8 + 2 + 12 * (len(tags) + 2) + 4
    if samples > 1:  # three numbers do not fit into their entry
        data = struct.pack(f"{order}{samples}H", *[bits] * samples) + data
    skipped = 2 * samples if samples > 1 else 0
    directory = b""
    for tag, value in sorted({**tags, 273: after + skipped, 279: len(data) - skipped}.items()):
        if tag == 258 and samples > 1:
            directory += struct.pack(order + "HHLL", tag, 3, samples, after)
        else:
            directory += (
                struct.pack(order + "HHLL", tag, 4, 1, value)
                if tag in (273, 279)
                else struct.pack(order + "HHLHH", tag, 3, 1, value, 0)
            )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "LH", 8, len(tags) + 2) + directory + bytes(4) + data


def dicom(values, kind="MONOCHROME2", bits=12, encoded=None, syntax=ExplicitVRLittleEndian, frames=1, **fields):
    """A DICOM file of values (frames·H, W[, 3]), or of `encoded` bytes of one frame."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape[0] // frames, values.shape[1]
    dataset.PhotometricInterpretation = kind
    dataset.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * values.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    if frames > 1:
        dataset.NumberOfFrames = frames
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([encoded]) if encoded else values.tobytes()
    dataset["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def rle(values):
    """A frame of 16 bits as DICOM's RLE has it (PS3.5, G): upper bytes, then lower, each all literal runs."""
    parts = []
    for plane in (values >> 8, values & 255):
        content = plane.astype(np.uint8).tobytes()
        runs = (content[i : i + 128] for i in range(0, len(content), 128))
        part = b"".join(bytes([len(run) - 1]) + run for run in runs)
        parts.append(part + b"\0" * (len(part) % 2))
    head = struct.pack("<16L", 2, 64, 64 + len(parts[0]), *[0] * 13)
    return head + b"".join(parts)


def table(values, first=0):
    """A lookup table's sequence."""
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(values), first, 16]
    item.LUTData = [int(value) for value in values]
    item["LUTData"].VR = item["LUTDescriptor"].VR = "US"
    return [item]


def turned():
    """Stored on its side, with the EXIF tag that says how to turn it."""
    exif = Image.Exif()
    exif[274] = 6
    return saved(np.ascontiguousarray(np.rot90(FILM)), "PNG", exif=exif)


def plain_cmyk():
    """A printer's JPEG as it is where Adobe's programs did not make it: not inverted, without their mark."""
    content = saved(ImageChops.invert(Image.fromarray(FILM).convert("CMYK")), "JPEG", quality=98)
    mark = content.index(b"\xff\xee\0\x0eAdobe")
    return content[:mark] + content[mark + 16 :]


def deep(channels, alpha=False):
    """The 12-bit film in several channels, the last idle."""
    bands = np.stack([DEEP] * channels, axis=-1)
    if alpha:
        bands[..., -1] = 77
    return bands


GREY = Image.fromarray(FILM)
INVERTED = np.uint16(4095) - DEEP  # from 15 to 4095: white is 15
WIDE = 400 + 2 * DEEP.astype(np.int32)  # what a window shows a part of

LOSSLESS = {
    "grey.png": saved(FILM, "PNG"),
    "grey16.png": saved(DEEP, "PNG"),
    "alpha.png": saved(GREY.convert("LA"), "PNG"),
    "alpha16.png": png16(deep(2, alpha=True), 4),
    "rgb.png": saved(GREY.convert("RGB"), "PNG"),
    "rgb16.png": png16(deep(3), 2),
    "rgba.png": saved(GREY.convert("RGBA"), "PNG"),
    "rgba16.png": png16(deep(4, alpha=True), 6),
    "palette.png": saved(GREY.convert("P"), "PNG"),
    "palette_transparent.png": saved(GREY.convert("P"), "PNG", transparency=bytes(range(256))),
    "turned.png": turned(),
    "grey.tif": saved(FILM, "TIFF"),
    "lzw.tif": saved(FILM, "TIFF", compression="tiff_lzw"),
    "packbits.tif": saved(FILM, "TIFF", compression="packbits"),
    "rgb.tif": saved(GREY.convert("RGB"), "TIFF", compression="tiff_adobe_deflate"),
    "palette.tif": saved(GREY.convert("P"), "TIFF"),
    "white_is_zero.tif": tiff(255 - FILM, 0),
    "grey16.tif": tiff(DEEP),
    "grey16_lzw.tif": saved(DEEP, "TIFF", compression="tiff_lzw"),
    "grey16_big_endian.tif": tiff(DEEP, order=">"),
    "grey16_big_endian_deflate.tif": tiff(DEEP, order=">", deflate=True),
    "white_is_zero16.tif": tiff(INVERTED, 0),
    "white_is_zero16_deflate.tif": tiff(INVERTED, 0, deflate=True),
    "white_is_zero16_big_endian.tif": tiff(INVERTED, 0, ">"),
    "white_is_zero16_big_endian_deflate.tif": tiff(INVERTED, 0, ">", deflate=True),
    "rgb16.tif": tiff(deep(3), 2),
    "rgb16_deflate.tif": tiff(deep(3), 2, deflate=True),
    "rgb16_big_endian.tif": tiff(deep(3), 2, ">"),
    "rgb16_big_endian_deflate.tif": tiff(deep(3), 2, ">", deflate=True),
    "float.tif": saved(FILM / np.float32(255), "TIFF"),
    "grey.bmp": saved(FILM, "BMP"),
    "grey.gif": saved(FILM, "GIF"),
    "grey.pgm": saved(FILM, "PPM"),
    "grey16.jp2": saved(DEEP, "JPEG2000"),
    "mono2.dcm": dicom(DEEP),
    "no_ending": dicom(DEEP),
    "mono1.dcm": dicom(INVERTED, "MONOCHROME1"),
    "mono2_8.dcm": dicom(FILM, bits=8),
    "mono1_8.dcm": dicom(255 - FILM, "MONOCHROME1", bits=8),
    "signed.dcm": dicom(DEEP.astype(np.int16) - 2048),
    "rescaled.dcm": dicom(DEEP, RescaleSlope="0.5", RescaleIntercept="-1024"),
    "falling.dcm": dicom(INVERTED, RescaleSlope="-1", RescaleIntercept="0"),
    # from 400 to 8560 in steps of 32: a window of just that range changes nothing
    "windowed.dcm": dicom(WIDE.astype(np.uint16), bits=16, WindowCenter=[4480, 9], WindowWidth=[8161, 2]),
    "window_of_no_width.dcm": dicom(DEEP, WindowCenter=2000, WindowWidth=0),
    "table.dcm": dicom(255 - FILM, bits=8, ModalityLUTSequence=table(np.arange(255, -1, -1) * 16)),
    "display_table.dcm": dicom(INVERTED, VOILUTSequence=table(np.arange(4095, -1, -1))),
    "rescaled_display_table.dcm": dicom(
        INVERTED, RescaleSlope=1, RescaleIntercept=0, VOILUTSequence=table(np.arange(4095, -1, -1))
    ),
    "frames.dcm": dicom(np.concatenate([DEEP, INVERTED]), frames=2),
    "rle.dcm": dicom(DEEP, encoded=rle(DEEP), syntax=RLELossless),
    "rgb.dcm": dicom(np.stack([FILM] * 3, axis=-1), "RGB", bits=8),
    "ybr.dcm": dicom(np.stack([FILM, FILM * 0 + 128, FILM * 0 + 128], axis=-1), "YBR_FULL", bits=8),
    "without_mark.dcm": dicom(DEEP)[132:],
}
"""File name to content."""

_JPEG_IN_DICOM = saved(FILM, "JPEG", quality=98)
LOSSY = {
    "grey.jpg": saved(FILM, "JPEG", quality=98),
    "progressive.jpg": saved(FILM, "JPEG", quality=98, progressive=True),
    "rgb.jpg": saved(GREY.convert("RGB"), "JPEG", quality=98),
    "rgb_progressive.jpg": saved(GREY.convert("RGB"), "JPEG", quality=98, progressive=True),
    "cmyk.jpg": saved(GREY.convert("CMYK"), "JPEG", quality=98),
    "cmyk_plain.jpg": plain_cmyk(),
    "jpeg.tif": saved(FILM, "TIFF", compression="jpeg"),
    "jpeg.dcm": dicom(FILM, bits=8, encoded=_JPEG_IN_DICOM, syntax=JPEGBaseline8Bit),
}
BLACK_OR_WHITE = {
    "bits.png": saved(GREY.convert("1"), "PNG"),
    "bits.tif": saved(GREY.convert("1"), "TIFF", compression="group4"),
    "bits_raw.tif": saved(GREY.convert("1"), "TIFF"),
}
FILMS = {**LOSSLESS, **LOSSY, **BLACK_OR_WHITE}
