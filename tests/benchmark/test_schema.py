"""Help, documentation, the dry run and the run agree about which keys a plan has and what they may hold."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields

import pytest
import yaml
from command_line import run
from small_cohort import write_cache

from anymri.benchmark.plan import BenchmarkPlan, EvaluationSection, MethodEntry, load_plan, plan_cells
from anymri.cli.benchmark import benchmark
from anymri.config import DataSection, TrainingSection
from anymri.evaluation import evaluate
from anymri.types import UserError

#: Section of a plan to its keys; what a plan repeats by other keys of its own is left out.
SECTIONS = {
    "": [entry.name for entry in fields(BenchmarkPlan)],
    "data": [entry.name for entry in fields(DataSection) if entry.name != "fold"],
    "methods": [entry.name for entry in fields(MethodEntry)],
    "training": [entry.name for entry in fields(TrainingSection) if entry.name != "seed"],
    "evaluation": [entry.name for entry in fields(EvaluationSection)],
}
#: A value other than the default for every key that has no simple one.
VALUES = {
    "training": {
        "epochs": 2, "steps_per_epoch": 3, "batch_size": 1, "patch": [16, 16, 16], "sampler": "uniform_subset",
        "lr": 0.01, "precision": 32, "accumulate": 2, "ema": 0.9, "augment": "mirror", "foreground": 0.5,
        "transplants": 0.5, "checkpoint_every": 2, "validate_every": 1, "threads": 1, "device": "cpu", "init": None,
    },
    "evaluation": {
        "part": "validation", "subsets": ["flair"], "reference": None, "precision": "32", "batch_size": 2,
        "overlap": 0.25, "window": [16, 16, 16], "hd95": False, "synthesis": False, "pictures": False,
        "metrics": "full", "downstream": "default",
    },
    "data": {"train_part": "train", "validation_part": "validation", "repeat": {"p*": 2}, "hide": {"p0": "t1"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("schema") / "balls")


@pytest.fixture
def write(cohort, tmp_path):
    def build(**changes):
        data = {"cache": str(cohort), "split": str(cohort.parent / "split.json"), **changes.pop("data", {})}
        plan = {"data": data, "methods": [{"name": "unet", "config": {"width": 2, "depth": 2}}]}
        plan |= {"training": {"patch": [16, 16, 16]}, "evaluation": {"part": "validation"}, **changes}
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(plan))
        return path

    return build


@pytest.mark.parametrize("section", SECTIONS)
def test_help_and_page_name_every_key(section, repository):
    page = (repository / "docs" / "how-to" / "benchmark.md").read_text(encoding="utf-8")
    for key in SECTIONS[section]:
        assert key in inspect.getdoc(benchmark), f"anymri benchmark --help: {key}"
        assert f"`{key}`" in page, f"benchmark.md: {key}"


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, keys in VALUES.items() for k in keys])
def test_every_key_is_accepted(section, key, write):
    usual = {"patch": [16, 16, 16]} if section == "training" else {}
    assert plan_cells(load_plan(write(**{section: {**usual, key: VALUES[section][key]}})))


def test_every_key_was_tried():
    for section, values in VALUES.items():
        assert set(values) | ({"cache", "split"} if section == "data" else set()) == set(SECTIONS[section])


@pytest.mark.parametrize("section", SECTIONS)
def test_a_misspelt_key_names_the_right_one(section, write):
    for key in SECTIONS[section]:
        wrong = f"{key}x"
        if section == "":
            path = write(**{wrong: 1})
        elif section == "methods":
            path = write(methods=[{"name": "unet", wrong: 1}])
        else:
            path = write(**{section: {wrong: 1}})
        with pytest.raises(UserError, match=rf"{wrong}.*did you mean \S*{key}\?") as caught:
            plan_cells(load_plan(path))
        assert "\n" not in str(caught.value)


def test_evaluation_keys_are_parameters_of_evaluate_with_its_defaults():
    known = inspect.signature(evaluate).parameters
    for entry in fields(EvaluationSection):
        assert entry.default is not MISSING
        assert known[entry.name].default == entry.default, entry.name


@pytest.mark.parametrize(
    ("changes", "instead"),
    [
        ({"data": {"fold": 1}}, "folds"),
        ({"training": {"seed": 3}}, "seeds"),
        ({"methods": [{"name": "acn", "config": {"subset": "flair"}}]}, "subsets"),
        ({"methods": [{"name": "unet", "training": {"seed": 3}}]}, "seeds"),
    ],
)
def test_what_the_plan_would_overwrite_is_refused(changes, instead, write):
    with pytest.raises(UserError, match=f"write {instead} instead"):
        plan_cells(load_plan(write(**changes)))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"patch": [15, 16, 16]}}, "training.patch"),
        ({"training": {"patch": [16, 16, 16], "sampler": "no_such"}}, "no_such"),
        ({"training": {"patch": [16, 16, 16], "augment": "no_such"}}, "no_such"),
        ({"training": {"patch": [16, 16, 16], "init": "no_such"}}, "no_such"),
        ({"training": {"patch": [16, 16, 16], "device": "cuda:7"}}, "cuda"),
        ({"evaluation": {"part": "test"}}, "part test of fold 0 is empty"),
        ({"evaluation": {"part": "validation", "reference": "nowhere"}}, "nowhere"),
        ({"data": {"train_part": "nobody"}}, "nobody"),
    ],
)
def test_the_dry_run_finds_what_the_run_refuses(changes, named, write, tmp_path):
    shown = run("benchmark", write(**changes), "-o", tmp_path / "out", "--dry-run", "--no-estimate")
    assert shown.code == 2
    assert shown.err.count("\n") == 1
    assert "1 of its entries cannot run" in shown.err
    assert "would fail: unet: " in shown.out
    assert named in shown.out
    assert not (tmp_path / "out").exists()


def test_a_good_plan_passes_the_dry_run(write, tmp_path):
    answer = run("benchmark", write(), "-o", tmp_path / "out", "--dry-run", "--no-estimate", "--json")
    assert answer.code == 0
    assert answer.json["problems"] == []
    assert answer.json["cells"] == answer.json["waiting"]
    assert len(answer.json["cells"]) == 1
