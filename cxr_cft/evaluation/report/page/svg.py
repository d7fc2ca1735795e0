"""A matplotlib figure as SVG to stand in a page: its colours follow the page's scheme, its text is text."""

from __future__ import annotations

import io
import re
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

ROLES = ("ink", "soft", "faint", "line", "paper", "accent", "reader", *(f"series-{n}" for n in range(6)))
"""Custom properties of page.css that a chart may use."""

COLOR = {role: f"#fe{place:02x}ef" for place, role in enumerate(ROLES)}
"""What a chart gives matplotlib for each role; the SVG has `var(--role)` instead, so that it serves every scheme."""

WIDTH = 300
"""Of a chart in CSS px, at which its text is TEXT px high. Assumed: a third of a desktop page, most of a phone."""

TEXT = 11  # px, at WIDTH
BOTTOM = 38  # px below the x axis: marks and a label

_SETTINGS: dict[Any, Any] = {
    "axes.unicode_minus": True,
    "font.size": TEXT,
    "path.simplify": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "cxr-cft",  # else element ids are random
}
_ROLE_OF = {color: f"var(--{role})" for role, color in COLOR.items()}
_SENTINEL = re.compile("|".join(map(re.escape, _ROLE_OF)))
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;? ?")


def new_axes(height: int, width: int = WIDTH, *, left: int = 38) -> Axes:
    """Axes with the page's look on a figure of `width` × `height` px, `left` of them beside the y axis."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)  # an SVG's unit is 1/72 inch, whatever the dpi
        FigureCanvasSVG(figure)
        axes = figure.add_axes((left / width, BOTTOM / height, 1 - (left + 8) / width, 1 - (BOTTOM + 8) / height))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(COLOR["soft"])
    axes.set_axisbelow(True)
    axes.grid(color=COLOR["line"], linewidth=1)
    axes.tick_params(length=0, pad=5, labelcolor=COLOR["soft"])
    axes.xaxis.label.set_color(COLOR["soft"])
    axes.yaxis.label.set_color(COLOR["soft"])
    return axes


def to_svg(axes: Axes, key: str, title: str, description: str) -> Markup:
    """The figure of these axes as an inline `<svg>` that says in words what it shows.

    Args:
        axes: from `new_axes`.
        key: prefix of every id, not used by another figure of the page; letters, digits, hyphens.
        title: what a reader of the page without eyes hears first.
        description: the chart's numbers in words.

    """
    written = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure = cast(Figure, axes.figure)  # where `new_axes` put them
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314 - matplotlib wrote it a line above
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
    _tidy(root)
    _rename(root, key)
    root.attrib = {
        "class": "chart",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{key}-title",
        "aria-describedby": f"{key}-words",
    }
    for place, (tag, name, text) in enumerate((("title", "title", title), ("desc", "words", description))):
        element = ElementTree.Element(tag, {"id": f"{key}-{name}"})
        element.text = text
        root.insert(place, element)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - ElementTree has escaped all text


def _tidy(parent: ElementTree.Element) -> None:
    """Drop what only a file of its own needs: metadata, a style sheet for everything, the empty background."""
    for child in list(parent):
        _tidy(child)
        attributes = child.attrib
        style = attributes.get("style", "")
        unseen = child.tag == "path" and style == "fill: none"
        empty = child.tag in ("g", "defs") and not len(child)
        if child.tag in ("metadata", "style") or unseen or empty:
            parent.remove(child)
            continue
        for name in ("style", "d", "x", "y", "transform", "points", "width", "height"):
            if name in attributes:
                text = _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attributes[name])
                attributes[name] = _SENTINEL.sub(lambda color: _ROLE_OF[color[0]], " ".join(text.split()))
        if style:
            attributes["style"] = _FONT_FAMILY.sub("", attributes["style"])
        if attributes.get("transform", "").startswith("rotate(-0 "):
            del attributes["transform"]


def _rename(root: ElementTree.Element, key: str) -> None:
    """Keep the ids that something points to, with the prefix, and turn an artist's own name into a class."""
    link = "{http://www.w3.org/1999/xlink}href"
    used = {element.attrib[link][1:] for element in root.iter() if link in element.attrib}
    used |= {element.attrib["clip-path"][5:-1] for element in root.iter() if "clip-path" in element.attrib}
    for element in root.iter():
        attributes = element.attrib
        name = attributes.pop("id", "")
        if name in used:
            attributes["id"] = f"{key}-{name}"
        elif name.startswith("is-"):
            attributes["class"] = name[3:]
        if link in attributes:
            attributes["href"] = f"#{key}-{attributes.pop(link)[1:]}"
        if "clip-path" in attributes:
            attributes["clip-path"] = f"url(#{key}-{attributes['clip-path'][5:-1]})"
