"""What reproduces each artefact: recipe, seed, versions, the commands that make it anew, and its fingerprints."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from cxr_cft.artifacts import fingerprint
from cxr_cft.data.studies import AGGREGATION
from cxr_cft.ensemble.file import CANDIDATES, Ensemble, MemberEntry
from cxr_cft.ensemble.members import TUNED
from cxr_cft.evaluation.report.facts import Origin, Search
from cxr_cft.evaluation.report.found import Found, FoundBundle, FoundRun
from cxr_cft.training.folds import NAME as FOLD_NAME

WEIGHTS, SUBMISSIONS = Path("weights"), Path("submissions")  # the commands' defaults, which need not be named


def origins(found: Found) -> tuple[Origin, ...]:
    """Runs, ensemble files and bundles, each kind by name."""
    return (
        *(_of_run(run, found) for run in found.runs),
        *(_of_search(search, found) for search in found.searches),
        *(_of_bundle(bundle, found) for bundle in found.bundles),
    )


def _of_run(run: FoundRun, found: Found) -> Origin:
    info = run.info
    named = FOLD_NAME.fullmatch(run.name) if info.section("data").get("fold") else None
    stem = named["base"] if named else run.name
    place = ["--data", info.data.root]
    if info.data.image_root:
        place += ["--image-root", info.data.image_root]
    folder = _at("--weights", found.weights, WEIGHTS)
    commands = [_typed("train", f"{stem}.toml", *place, "--name", stem, *folder)]
    details: dict[str, Any] = {"backbone": run.backbone, "categories": len(info.categories)}
    if info.metrics.best_epoch:
        details["epoch kept"] = info.metrics.best_epoch
    if pretrained := info.section("model").get("pretrained"):
        details["begun with"] = pretrained if isinstance(pretrained, str) else "timm's pretrained weights"
    if info.changes:
        details["changed on the way"] = "; ".join(info.changes)
    sums = {"model.safetensors": info.files.get("model.safetensors", "")}
    if run.cft:
        commands.append(_typed("cft", run.name, *_cft_options(run), *folder))
        details["heads tuned"] = f"{len(run.cft.changed)} of {len(run.cft.categories)}, by {', '.join(run.cft.methods)}"
        sums["heads.safetensors"] = run.cft.heads
    if info.data.fingerprint:
        sums["train.csv and valid.csv"] = info.data.fingerprint
    details["weights"] = f"{run.run.model_file.stat().st_size / 1e6:.1f} MB"
    seed = info.recipe.get("seed")
    return Origin(
        name=run.name,
        kind="run",
        seed=seed if isinstance(seed, int) else None,
        recipe=tomli_w.dumps(_without_none(info.recipe)),
        commands=tuple(commands),
        versions=info.versions,
        fingerprints=sums,
        details=details,
    )


def _cft_options(run: FoundRun) -> Iterator[str]:
    """Methods, and the keys in which they were set otherwise than in the recipe."""
    if run.cft is None:
        return
    for method in run.cft.methods:
        yield from ("--method", method)
    section = run.info.section("cft")
    for key, value in run.cft.options.items():
        if key in section and section[key] != value:
            yield from ("--set", f"cft.{key}={value}")


def _of_search(search: Search, found: Found) -> Origin:
    ensemble = search.ensemble
    candidate = CANDIDATES.get(ensemble.chosen, ensemble.chosen)
    searched = ensemble.labels
    labels = ["--labels", searched.source] if searched and not _by_default(searched.source, ensemble, found) else []
    command = _typed(
        "ensemble",
        *_named(ensemble, found),
        *labels,
        *_allowed(ensemble),
        *("--seed", str(ensemble.seed), "--out", str(found.weights / search.name)),
        *_at("--weights", found.weights, WEIGHTS),
    )
    sums = {search.name: search.fingerprint, **{member.name: member.fingerprint for member in ensemble.members}}
    if searched:
        sums[Path(searched.source).name] = searched.fingerprint
    return Origin(
        name=search.name,
        kind="ensemble",
        seed=ensemble.seed,
        recipe="",
        commands=(command,),
        versions={"cxr-cft": ensemble.version},
        fingerprints=sums,
        details={
            "members": len(ensemble.members),
            "in use": candidate,
            "on the scale": ensemble.candidate.scale,
            "views joined by": ensemble.aggregation,
            "searched on": f"{ensemble.studies} studies of {ensemble.patients} patients",
            "not recorded": "--missing, which the command therefore leaves out",
            **{key.replace("_", " "): _plain(value) for key, value in ensemble.settings.items()},
        },
    )


def _by_default(labels: str, ensemble: Ensemble, found: Found) -> bool:
    """Whether the ensemble command takes these labels by itself: all members are runs on data of this valid.csv."""
    roots = {str(run.run.path.resolve()): run.info.data.root for run in found.runs}
    roots |= {run.name: run.info.data.root for run in found.runs}  # of a run that is not where the search saw it
    for member in ensemble.members:
        source = Path(member.source)
        root = roots.get(str(source.resolve()) if source.is_dir() else source.name)
        if member.kind != "run" or root is None or (Path(root) / "valid.csv").resolve() != Path(labels):
            return False
    return True


def _allowed(ensemble: Ensemble) -> Iterator[str]:
    """The scale, and the way to join views, that alone were allowed; not where there is no other way to join them."""
    scales, ways = ensemble.settings.get("scales"), ensemble.settings.get("aggregations")
    if isinstance(scales, list) and len(scales) == 1:
        yield from ("--scale", str(scales[0]))
    if isinstance(ways, list) and len(ways) == 1:
        way = str(ways[0])
        if way != AGGREGATION or any(member.by_view for member in ensemble.members):
            yield from ("--aggregation", way)


def _named(ensemble: Ensemble, found: Found) -> Iterator[str]:
    """The members as the ensemble command takes them: runs by name, the tuned head alone as NAME.cft, CSVs by path."""
    heads: dict[str, list[MemberEntry]] = {}
    for member in ensemble.members:
        if member.kind == "run":
            heads.setdefault(member.source, []).append(member)
    for source, members in heads.items():
        near = (found.weights / Path(source).name).is_dir()
        name = Path(source).name if near else source
        yield name + TUNED * all(member.tuned for member in members)
    for member in ensemble.members:
        if member.kind != "run":
            yield from ("--predictions", member.source)


def _of_bundle(bundle: FoundBundle, found: Found) -> Origin:
    specification, folder = bundle.specification, bundle.folder
    search = found.search()
    source = [str(found.weights / search.name)] if search and search.name != "ensemble.json" else []
    precision = [] if specification.precision == "fp32" else ["--precision", specification.precision]
    command = _typed(
        "package-submission",
        *source,
        *("--name", folder.name, *precision),
        *_at("--out", found.submissions, SUBMISSIONS),
        *_at("--weights", found.weights, WEIGHTS),
    )
    return Origin(
        name=folder.name,
        kind="bundle",
        seed=None,
        recipe="",
        commands=(command,),
        versions={"cxr-cft": specification.version, **_requirements(folder)},
        fingerprints={name: total for name, total in bundle.sums.items() if name.endswith((".onnx", ".json"))}
        | {"manifest.json": fingerprint(folder / "manifest.json")},
        details={
            "columns": ", ".join(specification.output),
            "members": ", ".join(member.name for member in specification.members),
            "precision": specification.precision,
            "views joined by": specification.aggregation,
            "size": f"{sum((folder / name).stat().st_size for name in bundle.sums) / 1e6:.1f} MB",
            "of the ensemble": _standing(bundle, search),
        },
    )


def _standing(bundle: FoundBundle, search: Search | None) -> str:
    """Whether a bundle holds the weights and members of the ensemble file that lies there now."""
    if search is None:
        return "there is no ensemble file to compare it with"
    ensemble, columns = search.ensemble, bundle.specification.output
    chosen = ensemble.candidate.weights
    now = {
        member.name: (member.fingerprint, _weights(chosen[member.name], columns))
        for member in ensemble.members
        if any(_weights(chosen[member.name], columns))
    }
    packed = {
        member.name: (member.fingerprint, _weights(member.weights, columns)) for member in bundle.specification.members
    }
    if packed == now:
        return f"{search.name} as it is now ({CANDIDATES.get(ensemble.chosen, ensemble.chosen)})"
    if {name: each[0] for name, each in packed.items()} == {name: each[0] for name, each in now.items()}:
        return f"other weights than {search.name} has now in use; package it again to have those"
    return f"other members than {search.name} has now in use; package it again to have those"


def _weights(weights: Mapping[str, float], columns: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(weights.get(column, 0.0) for column in columns)


def _requirements(folder: Path) -> dict[str, str]:
    """The exact versions in requirements.txt."""
    try:
        text = (folder / "requirements.txt").read_text(encoding="utf-8")
    except OSError:
        return {}
    return dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", text, flags=re.MULTILINE))


def _without_none(content: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: a key that is None is one that was not given."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if value is not None
    }


def _plain(value: float | list[float] | list[str]) -> object:
    """A setting as it was before JSON made a float of it; a list as text."""
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return int(value) if value == int(value) else value


def _at(option: str, folder: Path, default: Path) -> list[str]:
    return [] if folder == default else [option, str(folder)]


def _typed(*words: str) -> str:
    return shlex.join(["cxr-cft", *words])
