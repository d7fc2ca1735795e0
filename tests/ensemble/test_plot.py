"""The picture is drawn of any search, however many members it has and whatever they are called."""

import numpy as np
import pytest
from PIL import Image

from cxr_cft.ensemble import plot, search_weights
from cxr_cft.ensemble.file import CANDIDATES
from cxr_cft.ensemble.plot import SHOWN, draw_ensemble

CATEGORIES = ("Cardiomegaly", "Edema")


@pytest.fixture
def drawn(monkeypatch):
    """What the last picture says, axes by axes: estimates, then weights."""
    figures = []

    class Kept(plot.Figure):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            figures.append(self)

    monkeypatch.setattr(plot, "Figure", Kept)

    def drawn(found, path):
        draw_ensemble(found, path)
        return figures[-1].axes

    return drawn


def labels_of(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_it_is_a_png_of_a_page(search, tmp_path):
    found, _, _ = search((1.0, 2.0), 40, scale="zlogit")
    draw_ensemble(found, tmp_path / "sub" / "p.png")
    assert (tmp_path / "sub" / "p.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(tmp_path / "sub" / "p.png") as picture:
        width, height = picture.size
        assert (width, height) >= (1500, 500)
        assert len(picture.convert("L").getcolors()) > 20
    draw_ensemble(found, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sub" / "p.png").read_bytes()


def test_every_candidate_is_drawn_with_its_interval_and_the_recommended_one_is_said(search, drawn, tmp_path):
    found, _, _ = search((0.3, 4.0), 100, scale="zlogit")
    estimates, weights = drawn(found, tmp_path / "p.png")
    said = labels_of(estimates)
    assert [text.removesuffix(" (recommended)") for text in said] == [
        *CANDIDATES.values(),
        "chosen like that in every fold",
    ]
    assert [text for text in said if "recommended" in text] == [f"{CANDIDATES[found.recommended]} (recommended)"]
    shown = [line.get_xydata().tolist() for line in estimates.lines]
    for place, each in enumerate([*found.candidates.values(), found.procedure]):
        assert [[each.out_of_fold, place]] in shown
        assert [[each.interval[0], place], [each.interval[1], place]] in shown
    assert [[each.fitted, place] for place, each in enumerate(found.candidates.values())] in shown
    assert labels_of(weights) == ["m0", "m1"]
    widths = [bar.get_width() for bar in weights.patches]
    assert widths == pytest.approx(sorted(found.weights().mean(axis=1), reverse=True))


def test_weights_per_category_are_drawn_each(search, drawn, tmp_path):
    found, _, _ = search((1.0, 2.0), 60, scale="zlogit")
    _, weights = drawn(found.using("ga-category"), tmp_path / "p.png")
    for c, category in enumerate(CATEGORIES):
        (line,) = [line for line in weights.lines if line.get_label() == category]
        assert sorted(line.get_xdata()) == pytest.approx(sorted(found.weights("ga-category")[:, c]))
    _, weights = drawn(found.using("equal"), tmp_path / "p.png")
    assert not [line for line in weights.lines if line.get_label() in CATEGORIES]


def test_of_very_many_members_those_of_the_most_weight_are_drawn(member, names, rng, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "SHOWN", 3)
    assert SHOWN == 40
    labels = (rng.random((40, 2)) < 0.4).astype(float)
    members = [member(f"m{m}", 0.2 * labels + 0.8 * rng.random((40, 2))) for m in range(5)]
    found = search_weights(members, names(40), labels, CATEGORIES, scale="zlogit").using("greedy")
    _, weights = drawn(found, tmp_path / "p.png")
    mean = found.weights().mean(axis=1)
    assert labels_of(weights) == [f"m{m}" for m in np.argsort(-mean, kind="stable")[:3]]
    assert "2 more members have less" in weights.get_xlabel()


@pytest.mark.parametrize("name", ["cost$5$", "$x_{$", "a_b^c", "50%", "<b>", "\\alpha"])
def test_members_are_called_what_they_are_called(member, made, names, drawn, tmp_path, name):
    labels, scores = made(np.random.default_rng(0), 40, (1.0, 2.0))
    members = [member(name, scores[0]), member("plain", scores[1])]
    found = search_weights(members, names(40), labels, CATEGORIES, scale="zlogit").using("equal")
    _, weights = drawn(found, tmp_path / "p.png")
    assert labels_of(weights) == [name, "plain"]


def test_a_search_without_estimates_and_of_one_member_is_drawn_too(member, drawn, tmp_path):
    studies = ["x/p0/s", "x/p1/s"]
    labels = np.array([[0, 1], [1, 0.0]])
    found = search_weights([member("a", labels / 2 + 0.2, studies=studies)], studies, labels, CATEGORIES)
    assert found.candidates["equal"].out_of_fold is None
    estimates, _ = drawn(found, tmp_path / "p.png")
    assert labels_of(estimates)[-1] == CANDIDATES["isotonic"]


def test_a_failure_leaves_the_older_picture(search, tmp_path, monkeypatch):
    found, _, _ = search((1.0, 2.0), 40, scale="zlogit")
    (tmp_path / "p.png").write_text("older")
    monkeypatch.setattr(plot.Figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        draw_ensemble(found, tmp_path / "p.png")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
    assert (tmp_path / "p.png").read_text() == "older"
