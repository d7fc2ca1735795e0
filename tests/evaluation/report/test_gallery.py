"""The gallery: which studies are shown, by whose heat maps, and what becomes of pictures that are gone."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cxr_cft.artifacts import open_run, write_csv
from cxr_cft.data.images import read_image
from cxr_cft.data.truth import StudyLabels
from cxr_cft.evaluation.heatmaps import heat_maps, overlay
from cxr_cft.evaluation.report.columns import Column
from cxr_cft.evaluation.report.found import find_artefacts
from cxr_cft.evaluation.report.gallery import SIDE, cases_of, painter_of
from cxr_cft.evaluation.report.gather import gather_facts

LEVELS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # few, so that there are ties


def column(scores, **about):
    return Column("made", "csv", "", np.asarray(scores, dtype=np.float64)[:, None], **about)


def truth(labels):
    studies = tuple(f"a/patient{number:02}/study1" for number in range(len(labels)))
    return StudyLabels(Path("labels.csv"), studies, ("Edema",), np.asarray(labels, dtype=np.float64)[:, None])


@given(
    rows=st.integers(1, 9).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from([1.0, 0.0, np.nan]), min_size=n, max_size=n), arrays(float, n, elements=LEVELS)
        )
    )
)
def test_cases_are_the_extremes_of_their_class_and_no_study_is_shown_twice(rows):
    labels, scores = np.array(rows[0]), rows[1]
    cases = cases_of("Edema", column(scores), truth(labels))
    studies = list(truth(labels).studies)
    places = [studies.index(case.study) for case in cases]
    assert len(set(places)) == len(places)
    kinds = [case.kind for case in cases]
    assert len(set(kinds)) == len(kinds)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    for case, row in zip(cases, places, strict=True):
        assert (case.label, case.probability, case.of) == (labels[row], scores[row], len(positives) + len(negatives))
        assert case.rank == 1 + (positives > scores[row]).sum() + (negatives > scores[row]).sum()
        own, other = (positives, negatives) if case.label else (negatives, positives)
        right = (scores[row] > other) if case.label else (scores[row] < other)
        if case.kind.startswith("right"):
            assert right.mean() >= 0.5
            assert scores[row] == (own.max() if case.label else own.min())
        else:
            assert not right.all()
            assert scores[row] == (own.min() if case.label else own.max())


def test_the_four_kinds_and_ties_by_name():
    labels = [1, 1, 1, 0, 0, 0, np.nan]
    cases = cases_of("Edema", column([0.9, 0.9, 0.2, 0.8, 0.1, 0.1, 1.0]), truth(labels))
    assert [(case.kind, case.study[9:11], case.rank) for case in cases] == [
        ("right positive", "00", 1),
        ("right negative", "04", 5),
        ("missed", "02", 4),
        ("false alarm", "03", 3),
    ]
    assert {case.of for case in cases} == {6}


def test_a_faultless_ranking_has_no_wrong_cases():
    cases = cases_of("Edema", column([0.9, 0.8, 0.2, 0.1]), truth([1, 1, 0, 0]))
    assert [case.kind for case in cases] == ["right positive", "right negative"]


@pytest.mark.parametrize(("score", "kind"), [(0.6, "right positive"), (0.1, "missed")])
def test_an_only_positive_is_right_or_missed_but_not_both(score, kind):
    cases = cases_of("Edema", column([score, 0.5, 0.4, 0.7]), truth([1, 0, 0, 0]))
    assert [case.kind for case in cases if case.label == 1] == [kind]


def test_pictures_are_what_the_network_saw_with_and_without_its_heat_map(facts, artefacts):
    assert "other" in facts.gallery_by or "tiny" in facts.gallery_by
    run = open_run(artefacts.weights / facts.gallery_by.split("by one member, ")[1].split(",")[0].removesuffix(".cft"))
    tuned = ".cft," in facts.gallery_by
    shown = 0
    for category in facts.categories:
        assert len(category.cases) >= 2
        for case in category.cases:
            assert 1 <= len(case.views) <= 3
            for view in case.views:
                assert view.path.startswith(f"{case.study}/")
                assert view.caption == "frontal view"
                assert view.mime == "image/webp"
                file = artefacts.data.parent / view.path
                picture = np.asarray(Image.open(io.BytesIO(view.image)).convert("L"), dtype=float)
                assert np.abs(picture - read_image(file, 32)).mean() < 12
                shown += 1
        view = category.cases[0].views[0]
        [seen] = heat_maps(run, [artefacts.data.parent / view.path], [category.name], tuned=tuned)
        expected = np.asarray(overlay(seen.image, seen.maps[0]), dtype=float)
        heat = np.asarray(Image.open(io.BytesIO(view.heat)).convert("RGB"), dtype=float)
        assert np.abs(heat - expected).mean() < 20
    assert shown > len(facts.categories)


def test_a_large_picture_is_made_small(facts):
    from cxr_cft.evaluation.report.gallery import _encoded

    noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(_encoded(Image.fromarray(noise)))).size == (SIDE, SIDE)
    assert Image.open(io.BytesIO(facts.categories[0].cases[0].views[0].image)).size == (32, 32)


@pytest.mark.usefixtures("few_resamples")
def test_pictures_that_are_gone_or_damaged_are_a_line_and_leave_the_case(copied, facts, tmp_path):
    data = shutil.copytree(copied.data, tmp_path / copied.data.name)
    gone, damaged = facts.categories[0].cases[0].views[0].path, facts.categories[0].cases[1].views[0].path
    (data.parent / gone).unlink()
    (data.parent / damaged).write_bytes(b"no picture")
    found = copied.facts(data=data)
    [line] = [line for line in found.missing if line.startswith("The gallery lacks 2 of")]
    assert gone in line
    assert damaged in line
    assert [case.study for case in found.categories[0].cases] == [case.study for case in facts.categories[0].cases]
    shown = {view.path for category in found.categories for case in category.cases for view in case.views}
    assert shown
    assert not {gone, damaged} & shown


def test_heat_maps_are_by_the_run_itself_or_the_weightiest_member(artefacts):
    found = find_artefacts(artefacts.weights, artefacts.submissions, [])
    tiny = next(run for run in found.runs if run.name == "tiny")
    head = column([0.0], run=tiny, tuned=True)
    assert (painter_of(head, found, ()).run, painter_of(head, found, ()).tuned) == (tiny, True)

    [search] = found.searches
    equal = column([0.0], search=search, candidate="equal")
    best = max((member.alone, member.name) for member in search.ensemble.members)[1]
    painter = painter_of(equal, found, search.ensemble.scored)
    assert painter.run.name + ".cft" * painter.tuned == best
    assert f"by one member, {best}" in painter.why
    assert "of 3 with that weight it is the best by itself" in painter.why

    weights = {
        name: dict.fromkeys(row, share)
        for (name, row), share in zip(search.ensemble.candidate.weights.items(), (0.5, 0.2, 0.3), strict=True)
    }
    candidate = search.ensemble.candidates["greedy"].model_copy(update={"weights": weights})
    ensemble = search.ensemble.model_copy(update={"candidates": {**search.ensemble.candidates, "greedy": candidate}})
    greedy = column([0.0], search=replace(search, ensemble=ensemble), candidate="greedy")
    painter = painter_of(greedy, found, search.ensemble.scored)
    first = search.ensemble.members[0]
    assert (painter.run.name, painter.tuned) == (Path(first.source).name, first.tuned)
    assert "the greatest weight, 0.500" in painter.why


@pytest.mark.usefixtures("few_resamples")
def test_a_csv_has_pictures_without_heat(artefacts, copied):
    file = artefacts.weights / "tiny" / "predictions" / "test.csv"
    shutil.rmtree(copied.weights)
    shutil.rmtree(copied.submissions)
    facts = copied.facts(
        labels=artefacts.data / "test.csv", predictions=[f"mine={file}"], image_root=artefacts.data.parent
    )
    assert "no network" in facts.gallery_by
    views = [view for category in facts.categories for case in category.cases for view in case.views]
    assert views
    assert all(view.heat is None and view.image for view in views)


@pytest.mark.usefixtures("few_resamples")
def test_a_study_shows_three_views_at_most_frontal_ones_first(tmp_path):
    words = ["Lateral", "", "Frontal", "Frontal"]
    names = ["a.png", "b_lateral.png", "c.png", "d.png"]
    rows, scores = [], []
    for patient, label in (("p1", 1), ("p2", 0)):
        study = f"set/{patient}/study1"
        (tmp_path / study).mkdir(parents=True)
        for name, word in zip(names, words, strict=True):
            Image.new("L", (20, 20), 60 * len(rows) % 250).save(tmp_path / study / name)
            rows.append([f"{study}/{name}", word, label])
        scores.append([study, label])
    write_csv(tmp_path / "labels.csv", ["Path", "Frontal/Lateral", "Edema"], rows)
    write_csv(tmp_path / "mine.csv", ["Study", "Edema"], [[study, 0.2 + 0.5 * label] for study, label in scores])
    facts = gather_facts(
        tmp_path / "none", tmp_path / "none", labels=tmp_path / "labels.csv", predictions=[str(tmp_path / "mine.csv")]
    )
    [category] = facts.categories
    assert [case.kind for case in category.cases] == ["right positive", "right negative"]
    for case in category.cases:
        assert [view.path for view in case.views] == [f"{case.study}/{name}" for name in ("c.png", "d.png", "a.png")]
        assert [view.caption for view in case.views] == ["frontal view", "frontal view", "lateral view"]


def test_a_backbone_that_cannot_be_explained_is_said(monkeypatch, artefacts):
    monkeypatch.setattr("cxr_cft.evaluation.heatmaps.heat_map_reason", lambda run: f"{run.name} has no map of places")
    found = find_artefacts(artefacts.weights, artefacts.submissions, [])
    [search] = found.searches
    painter = painter_of(column([0.0], search=search, candidate="equal"), found, search.ensemble.scored)
    assert painter.run is None
    assert "There are no heat maps: " in painter.why
    assert "other has no map of places" in painter.why
