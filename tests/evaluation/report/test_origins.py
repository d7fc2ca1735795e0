"""What reproduces an artefact: recipes that load again, commands that are the tool's own, bundles held to weights."""

import json
import shlex
import shutil

import pytest
from typer.main import get_command

from cxr_cft.artifacts import fingerprint
from cxr_cft.cli.main import app
from cxr_cft.ensemble.file import Searched, read_ensemble, write_ensemble
from cxr_cft.evaluation.report.found import find_artefacts
from cxr_cft.evaluation.report.origins import origins
from cxr_cft.settings import Recipe, load_recipe


@pytest.fixture
def found(artefacts):
    """Origins by name."""
    return {each.name: each for each in origins(find_artefacts(artefacts.weights, artefacts.submissions, []))}


def test_every_artefact_has_one(found):
    assert [(each.name, each.kind) for each in found.values()] == [
        ("other", "run"),
        ("tiny", "run"),
        ("ensemble.json", "ensemble"),
        ("made", "bundle"),
    ]
    assert (found["other"].seed, found["tiny"].seed, found["ensemble.json"].seed) == (1, 0, 0)


def test_a_recipe_loads_to_the_very_recipe_of_the_run(found, artefacts, tmp_path):
    for name in ("tiny", "other"):
        path = tmp_path / f"{name}.toml"
        path.write_text(found[name].recipe)
        info = json.loads((artefacts.weights / name / "run.json").read_text())
        assert load_recipe(str(path))[1] == Recipe.model_validate(info["recipe"])


def test_commands_are_understood_by_the_tool(found):
    command = get_command(app)
    for each in found.values():
        assert each.commands
        for line in each.commands:
            program, name, *words = shlex.split(line)
            assert program == "cxr-cft"
            command.commands[name].make_context(name, words)  # raises for what is no option


def test_commands_name_what_was_used(found, artefacts):
    weights, data = artefacts.weights, artefacts.data
    train, cft = found["tiny"].commands
    assert train == f"cxr-cft train tiny.toml --data {data} --name tiny --weights {weights}"
    assert cft == f"cxr-cft cft tiny --method bce --set 'cft.pulls=[10.0]' --weights {weights}"
    assert found["other"].commands == (f"cxr-cft train other.toml --data {data} --name other --weights {weights}",)
    [ensemble] = found["ensemble.json"].commands
    assert ensemble == f"cxr-cft ensemble other tiny --seed 0 --out {weights / 'ensemble.json'} --weights {weights}"
    [bundle] = found["made"].commands
    assert bundle == f"cxr-cft package-submission --name made --out {artefacts.submissions} --weights {weights}"


def test_an_ensembles_command_names_what_was_not_left_to_it(copied, artefacts):
    path = copied.weights / "ensemble.json"
    ensemble = read_ensemble(path)

    def words(**update):
        write_ensemble(path, ensemble.model_copy(update=update))
        [origin] = [
            each for each in origins(find_artefacts(copied.weights, copied.submissions, [])) if each.kind == "ensemble"
        ]
        assert "--missing" in origin.details["not recorded"]
        [line] = origin.commands
        _, name, *words = shlex.split(line)
        get_command(app).commands[name].make_context(name, list(words))
        return words

    plain = words()
    assert not {"--labels", "--scale", "--aggregation"} & set(plain)
    test = artefacts.data / "test.csv"
    assert ["--labels", str(test)] == added(
        plain, words(labels=Searched(source=str(test), fingerprint=fingerprint(test)))
    )
    allowed = {**ensemble.settings, "scales": ["rank"], "aggregations": ["mean"]}
    assert added(plain, words(settings=allowed, aggregation="mean")) == ["--scale", "rank", "--aggregation", "mean"]
    # Of CSVs of studies there is one way to join views only, and it cannot be asked for otherwise.
    by_study = tuple(member.model_copy(update={"by_view": False}) for member in ensemble.members)
    assert plain == words(settings={**ensemble.settings, "aggregations": ["max"]}, members=by_study)
    shutil.rmtree(copied.weights / "other")
    assert "--labels" in words()  # whose valid.csv would be meant is no longer known


def added(before, after):
    """The words of a longer command that a shorter one lacks, both else alike."""
    assert [word for word in after if word in before] == before
    return [word for word in after if word not in before]


def test_fingerprints_are_those_of_the_files(found, artefacts):
    tiny = artefacts.weights / "tiny"
    sums = found["tiny"].fingerprints
    assert sums["model.safetensors"] == fingerprint(tiny / "model.safetensors")
    assert sums["heads.safetensors"] == fingerprint(tiny / "heads.safetensors")
    assert sums["train.csv and valid.csv"] == fingerprint(artefacts.data / "train.csv", artefacts.data / "valid.csv")
    ensemble = found["ensemble.json"].fingerprints
    assert ensemble["ensemble.json"] == fingerprint(artefacts.weights / "ensemble.json")
    bundle = artefacts.submissions / "made"
    for name in ("manifest.json", "submission.json", "models/tiny.onnx"):
        assert found["made"].fingerprints[name] == fingerprint(bundle / name)
    assert found["tiny"].versions["torch"]
    assert found["made"].versions["numpy"]


def test_a_bundle_says_whether_it_holds_the_weights_that_lie_there(copied):
    def standing():
        return origins(find_artefacts(copied.weights, copied.submissions, []))[-1].details["of the ensemble"]

    assert standing().startswith("ensemble.json as it is now")
    path = copied.weights / "ensemble.json"
    ensemble = read_ensemble(path)
    single = ensemble.using("best")
    write_ensemble(path, single)
    assert standing().startswith("other members than ensemble.json")
    weights = {
        name: dict.fromkeys(row, share)
        for (name, row), share in zip(ensemble.candidate.weights.items(), (0.5, 0.2, 0.3), strict=True)
    }
    candidate = ensemble.candidate.model_copy(update={"weights": weights})
    write_ensemble(
        path, ensemble.model_copy(update={"candidates": {**ensemble.candidates, ensemble.chosen: candidate}})
    )
    assert standing().startswith("other weights than ensemble.json")
    path.unlink()
    assert standing().startswith("there is no ensemble file")
