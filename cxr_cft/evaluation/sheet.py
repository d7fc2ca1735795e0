"""A study's heat maps on one page: its views side by side, plain and under the heat of each category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxr_cft.evaluation.heatmaps import HeatMaps, overlay

INK, QUIET, PAPER, RAIL, BAR = "#1a1d21", "#5c636b", "#ffffff", "#e3e6ea", "#1b6ca8"
SIDES = (256, 320)  # of a view on the page: pixels at least, and at most (by eye; recipes' images have 320)
WIDEST = 1600  # pixels of a block of views that stand side by side
SHAPE = 1.45  # width over height that a page comes near to: a screen's
EDGE, GAP, BETWEEN = 28, 20, 4  # pixels around the page, between blocks, between views
TOP = 46  # pixels of a block above its views


@dataclass(frozen=True, eq=False)
class Finding:
    """A category of a study: its probability, that of each view, what the label says, and why there is no heat.

    `label` is a word or ""; `silent` holds for each view the remark that stands in place of heat, or "".
    """

    category: str
    probability: float
    views: Sequence[float]
    label: str
    silent: Sequence[str]


def draw_sheet(
    title: str,
    by: str,
    views: Sequence[str],
    maps: Sequence[HeatMaps],
    findings: Sequence[Finding],
    remarks: Sequence[str],
) -> Image.Image:
    """The page of a study, `by` a run: `views` names its pictures, `maps` are theirs, `findings` in the maps' order.

    `remarks` stand below, each a paragraph, beside the scale of colours.
    """
    side = _side(maps)
    width = len(maps) * (side + BETWEEN) - BETWEEN
    blocks = [_plain_block(views, maps, side, width)]
    blocks += [
        _block(finding, [each.image for each in maps], [each.maps[k] for each in maps], side, width)
        for k, finding in enumerate(findings)
    ]
    across = _across(len(blocks), width, blocks[0].height)
    inner = across * (width + GAP) - GAP
    head, foot = _head(title, by, inner), _foot(remarks, inner)
    down = -(-len(blocks) // across)
    top = EDGE + head.height
    page = Image.new("RGB", (inner + 2 * EDGE, top + down * (blocks[0].height + GAP) + foot.height + EDGE), PAPER)
    page.paste(head, (EDGE, EDGE))
    for place, block in enumerate(blocks):
        row, column = divmod(place, across)
        page.paste(block, (EDGE + column * (width + GAP), top + row * (block.height + GAP)))
    page.paste(foot, (EDGE, page.height - EDGE - foot.height))
    return page


def _side(maps: Sequence[HeatMaps]) -> int:
    """The side of a view on the page."""
    least, most = SIDES
    return min(max(least, min(most, len(maps[0].image))), WIDEST // len(maps))


def _across(blocks: int, width: int, height: int) -> int:
    """How many blocks stand in a row: near to SHAPE, and with few empty places."""

    def cost(across: int) -> float:
        down = -(-blocks // across)
        shape = across * (width + GAP) / (down * (height + GAP))
        return abs(math.log(shape / SHAPE)) + 1 - blocks / (across * down)

    return min(range(1, blocks + 1), key=cost)


# ---- parts


def _plain_block(views: Sequence[str], maps: Sequence[HeatMaps], side: int, width: int) -> Image.Image:
    block, draw = _empty_block(side, width)
    draw.text((0, 15), _fitted("as the network sees it", 15, width, bold=True), INK, _font(15, bold=True), anchor="ls")
    for place, (name, each) in enumerate(zip(views, maps, strict=True)):
        left = place * (side + BETWEEN)
        block.paste(_resized(Image.fromarray(each.image).convert("RGB"), side), (left, TOP))
        draw.text((left, 23), _fitted(name, 13, side), QUIET, _font(13))
    return block


def _block(
    finding: Finding, images: Sequence[NDArray[np.uint8]], heat: Sequence[NDArray[np.float32]], side: int, width: int
) -> Image.Image:
    block, draw = _empty_block(side, width)
    number = f"{finding.probability:.3f}"
    room = width - _font(15, bold=True).getlength(number) - 8
    size = next((size for size in (15, 14, 13, 12) if _font(size, bold=True).getlength(finding.category) <= room), 11)
    draw.text((0, 15), _fitted(finding.category, size, room, bold=True), INK, _font(size, bold=True), anchor="ls")
    draw.text((width, 15), number, INK, _font(15, bold=True), anchor="rs")
    draw.rectangle((0, 21, width - 1, 24), RAIL)
    if finding.probability * width >= 1:
        draw.rectangle((0, 21, round(finding.probability * width) - 1, 24), BAR)
    if finding.label:
        draw.text((0, 27), f"labelled {finding.label}", QUIET, _font(13))
    for place, (image, map_, probability, silent) in enumerate(
        zip(images, heat, finding.views, finding.silent, strict=True)
    ):
        left = place * (side + BETWEEN)
        block.paste(_resized(overlay(image, map_), side), (left, TOP))
        said = [f"{probability:.3f}"] * (len(images) > 1) + [silent] * bool(silent)
        if said:
            _tag(draw, left, TOP + side, _fitted(" · ".join(said), 13, side - 12))
    return block


def _tag(draw: ImageDraw.ImageDraw, left: int, bottom: int, text: str) -> None:
    """A line in a picture's lower left corner."""
    draw.rectangle((left, bottom - 21, left + round(_font(13).getlength(text)) + 11, bottom - 1), INK)
    draw.text((left + 6, bottom - 18), text, PAPER, _font(13))


def _empty_block(side: int, width: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    block = Image.new("RGB", (width, side + TOP), PAPER)
    return block, ImageDraw.Draw(block)


def _head(title: str, by: str, width: int) -> Image.Image:
    head = Image.new("RGB", (width, 44), PAPER)
    draw = ImageDraw.Draw(head)
    name = _fitted(by, 15, width / 3)
    room = width - _font(15).getlength(name) - GAP
    draw.text((0, 20), _fitted(title, 21, room, bold=True, end=True), INK, _font(21, bold=True), anchor="ls")
    draw.text((width, 20), name, QUIET, _font(15), anchor="rs")
    return head


def _foot(remarks: Sequence[str], width: int) -> Image.Image:
    """The scale of colours as it looks over grey, and the remarks beside it."""
    scale_width, line = min(200, width // 3), 19
    lines = [line for remark in remarks for line in _wrapped(remark, width - scale_width - 28)]
    foot = Image.new("RGB", (width, max(62, line * len(lines) + 6)), PAPER)
    draw = ImageDraw.Draw(foot)
    ramp = np.linspace(0, 1, scale_width, dtype=np.float32)
    foot.paste(overlay(np.full((18, scale_width), 110, np.uint8), np.tile(ramp, (18, 1))), (0, 4))
    draw.text((0, 26), "no heat", QUIET, _font(13))
    draw.text((scale_width, 26), "the map's hottest", QUIET, _font(13), anchor="ra")
    for place, text in enumerate(lines):
        draw.text((scale_width + 28, line * place), text, QUIET, _font(13))
    return foot


# ---- text and pixels


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image if image.width == side else image.resize((side, side), Image.Resampling.BICUBIC)


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has most of the world's letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts", "ttf", name), size)


def _fitted(text: str, size: int, room: float, *, bold: bool = False, end: bool = False) -> str:
    """A line that is not wider than the room, cut behind, or, where its end says more, in front."""
    font = _font(size, bold=bold)
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        cut = f"…{text[-kept:]}" if end else f"{text[:kept]}…"
        if font.getlength(cut) <= room:
            return cut
    return "…"


def _wrapped(text: str, room: float) -> list[str]:
    """A paragraph's lines."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font(13).getlength(longer) > room:
            lines.append(_fitted(word, 13, room))
        else:
            lines[-1] = longer
    return lines
