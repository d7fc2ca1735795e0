"""Heat maps of a CSV's studies: a page for each, and an index of them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from cxr_cft.artifacts import Run, fingerprint, make_folder
from cxr_cft.data.images import read_image
from cxr_cft.data.labels import NEGATIVE, POSITIVE, UNCERTAIN
from cxr_cft.data.splits import usable_views
from cxr_cft.data.studies import aggregate_views
from cxr_cft.data.table import Table, check_images, read_frame, read_table
from cxr_cft.ensemble.members import run_name
from cxr_cft.errors import DataError, did_you_mean, first_few
from cxr_cft.evaluation.gradcam import Layer
from cxr_cft.evaluation.heatmaps import HeatMaps, columns_of, heat_maps
from cxr_cft.evaluation.pages import check_ours, page_name, read_page, write_index, write_page
from cxr_cft.evaluation.sheet import Finding, draw_sheet
from cxr_cft.progress import SILENT, Progress
from cxr_cft.settings import Recipe
from cxr_cft.training.inference import chosen_head

_WORDS = {POSITIVE: "positive", NEGATIVE: "negative", UNCERTAIN: "uncertain"}


@dataclass(frozen=True)
class Explained:
    """What came of a call: pages drawn now, pages that were there, and all pages of the index."""

    drawn: int
    kept: int
    listed: int


def read_asked(run: Run, csv: Path, studies: Sequence[str] | None = None, *, image_root: Path | None = None) -> Table:
    """The views that are to be explained, with the labels that the CSV has of the run's categories.

    `studies` names some by their path or parts of it (`patient00001/study1`, `patient00001`). A run of frontal views is
    asked about a lateral one only where its study has no frontal. Raises DataError for a CSV that cannot be read, a
    study that it does not have, and images that are missing.
    """
    labelled = [category for category in run.categories if category in read_frame(csv).columns]
    table = read_table(csv, csv.resolve().parent, labelled, image_root=image_root)
    if studies:
        table = _only(table, [study.rstrip("/") for study in studies])
    table = usable_views(table, Recipe.model_validate(run.info["recipe"]).data.views)
    check_images(table)
    return table


def explain_studies(
    run: Run,
    table: Table,
    out: Path,
    categories: Sequence[str] | None = None,
    *,
    tuned: bool | None = None,
    progress: Progress = SILENT,
) -> Explained:
    """Draw a page for every study of a table into the folder `out`, and list all that lie there in index.csv.

    Pages of the same run, heads, categories and images that are there already are kept, so that a killed call goes on.
    Raises what `heat_maps` raises, and CxrCftError where `out` is a file, or what `explain` did not write would be
    overwritten. A study with an image that cannot be read has no page, which is raised as DataError once all others
    have theirs.
    """
    chosen = tuple(dict.fromkeys(categories or run.categories))
    columns_of(run, chosen)
    tuned = chosen_head(run, tuned=tuned)
    studies = _views_by_study(table)
    pages = {study: out / page_name(study, run_name(run.path, tuned)) for study in studies}
    wanted = _made_of(run, table, studies, chosen, tuned=tuned)
    check_ours(out, pages.values())
    make_folder(out)
    missing = {study: rows for study, rows in studies.items() if not _is_there(pages[study], wanted[study])}
    if len(missing) < len(studies):
        progress.note(f"{len(studies) - len(missing)} of {len(studies)} pages are there already")
    unreadable = _unreadable(run, table, missing)
    drawn = {study: rows for study, rows in missing.items() if study not in unreadable}
    try:
        for study, maps in _by_study(run, table, drawn, chosen, tuned, progress):
            _draw(run, table, drawn[study], maps, wanted[study], pages[study])
    except KeyboardInterrupt:
        progress.note(f"interrupted; {write_index(out)} pages lie in {out}, and the same command goes on")
        raise
    found = Explained(len(drawn), len(studies) - len(missing), write_index(out))
    if unreadable:
        raise DataError(
            f"{len(unreadable)} of {len(studies)} studies have an image that cannot be read, and no page; the others"
            f" have theirs in {out}: {first_few(unreadable.values())}"
        )
    return found


def _only(table: Table, names: Sequence[str]) -> Table:
    taken = np.zeros(len(table), dtype=bool)
    for name in names:
        found = np.array([f"/{name}/" in f"/{study}/" for study in table.studies], dtype=bool)
        if not found.any():
            raise DataError(f"{table.source} has no study {name}{did_you_mean(name, table.studies)}")
        taken |= found
    return table.take(taken)


def _views_by_study(table: Table) -> dict[str, list[int]]:
    """The rows of each study, in the order of the CSV; a view that is there twice is taken once."""
    rows: dict[str, dict[str, int]] = {}
    for row, (study, path) in enumerate(zip(table.studies, table.paths, strict=True)):
        rows.setdefault(study, {}).setdefault(path, row)
    return {study: list(views.values()) for study, views in rows.items()}


def _unreadable(run: Run, table: Table, studies: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The studies with an image that cannot be read, and which that is."""
    side = run.info["preprocessing"]["size"]
    found = {}
    for study, rows in studies.items():
        for row in rows:
            try:
                read_image(table.file(row), side)
            except OSError as error:
                found[study] = f"{table.file(row)} ({error})"
    return found


def _by_study(
    run: Run,
    table: Table,
    studies: dict[str, list[int]],
    categories: Sequence[str],
    tuned: bool,
    progress: Progress,
) -> Iterator[tuple[str, list[HeatMaps]]]:
    files = [table.file(row) for rows in studies.values() for row in rows]
    if files:
        found = heat_maps(run, files, categories, tuned=tuned, progress=progress)
        for study, rows in studies.items():
            yield study, [next(found) for _ in rows]
        next(found, None)  # progress hears of its end only by being asked for more


# ---- what a page is made of


def _made_of(
    run: Run, table: Table, studies: Mapping[str, Sequence[int]], categories: Sequence[str], *, tuned: bool
) -> dict[str, dict[str, Any]]:
    """All that decides what a study's page shows, as JSON can hold it."""
    model = {
        "run": run.name,
        "weights": run.weights,
        "head": "tuned" if tuned else "trained",
        "heads": fingerprint(run.heads_file) if tuned else None,
        "categories": list(categories),
    }
    labels = dict(zip(*table.study_labels(), strict=True))
    found = {}
    for study, rows in studies.items():
        known = dict(zip(table.categories, labels[study], strict=True))
        status = [table.file(row).stat() for row in rows]
        found[study] = {
            "study": study,
            **model,
            "labels": [_WORDS.get(known.get(category, np.nan), "") for category in categories],
            "views": [table.paths[row] for row in rows],
            "images": [[each.st_size, each.st_mtime_ns] for each in status],
        }
    return found


def _is_there(path: Path, made_of: Mapping[str, Any]) -> bool:
    there = read_page(path)
    return there is not None and {**there, **made_of} == there


# ---- one page


def _draw(
    run: Run,
    table: Table,
    rows: Sequence[int],
    maps: Sequence[HeatMaps],
    made_of: dict[str, Any],
    path: Path,
) -> None:
    names = [table.paths[row].rpartition("/")[2] for row in rows]
    by_view = expit(np.stack([each.logits for each in maps]).astype(np.float64))
    (joined,) = aggregate_views([table.paths[row] for row in rows], by_view)[1]
    findings = [
        Finding(
            category,
            float(joined[k]),
            by_view[:, k].tolist(),
            made_of["labels"][k],
            [_silent(run, category, float(each.scale[k])) for each in maps],
        )
        for k, category in enumerate(made_of["categories"])
    ]
    page = draw_sheet(made_of["study"], run.name, names, maps, findings, _remarks(run, made_of["head"], maps[0].layer))
    write_page(path, page, {**made_of, "probabilities": joined.tolist()})


def _silent(run: Run, category: str, scale: float) -> str:
    if category in run.info.get("unlearnt", ()):
        return "not learnt, always the same"
    return "" if scale > 0 else "nothing here speaks for it"


def _remarks(run: Run, head: str, layer: Layer) -> list[str]:
    model = Recipe.model_validate(run.info["recipe"]).model
    heads = "the heads that CFT tuned" if head == "tuned" else "the heads as they were trained"
    shifts = ", averaged over shifts of the picture, while heat is of the picture itself" if model.tta else ""
    about = (
        f"{model.backbone} at {model.image_size} px, by {heads}. A study's probability is that of its most suspicious "
        f"view{shifts}."
    )
    heat = (
        f"Heat is Grad-CAM at {layer.name}, {layer.rows} × {layer.columns} cells: where the picture raises the "
        "category's logit. Each map is scaled to its own maximum: colours compare places of one map, not maps, and do "
        "not say how likely a finding is. Made for research, not for diagnosis."
    )
    return [about, heat]
