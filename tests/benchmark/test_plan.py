"""Plans of benchmarks: what is read, what is refused, and what makes two cells the same."""

import hashlib
import json
from dataclasses import asdict

import pytest
import yaml
from small_cohort import write_cache

from anymri.benchmark.plan import load_plan, plan_cells, table_path
from anymri.benchmark.state import describe_cells, describe_time
from anymri.config import result_changing
from anymri.types import UserError

TEXT = """
data: {cache: CACHE, split: SPLIT}
folds: [0]
seeds: [0, 1]
methods: [threshold, {name: unet, config: {width: 2}}]
training: {epochs: 1}
evaluation: {subsets: [flair+t1c, t1]}
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("plan") / "balls")


@pytest.fixture
def write(tmp_path, cohort):
    """Write the plan with changes to its top keys and read it."""

    def build(**changes):
        values = yaml.safe_load(TEXT.replace("CACHE", str(cohort)).replace("SPLIT", str(cohort.parent / "split.json")))
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**values, **changes}))
        return load_plan(tmp_path / "plan.yaml")

    return build


def test_cells_are_methods_by_folds_by_seeds(write):
    cells = plan_cells(write())
    found = [(cell.config.method.name, cell.config.training.seed, cell.config.data.fold) for cell in cells]
    assert found == [("threshold", 0, 0), ("unet", 0, 0), ("threshold", 1, 0), ("unet", 1, 0)]
    assert len({cell.name for cell in cells}) == 4
    assert len({cell.kind for cell in cells}) == 2, "seeds cost the same"
    assert {cell.evaluation.subsets for cell in cells} == {("t1c+flair", "t1")}
    assert {cell.config.training.epochs for cell in cells} == {1}


def test_a_cell_is_named_by_what_changes_its_numbers(write):
    names = {cell.name for cell in plan_cells(write())}
    assert {cell.name for cell in plan_cells(write(training={"epochs": 1, "threads": 1}))} == names
    assert not {cell.name for cell in plan_cells(write(training={"epochs": 2}))} & names
    assert not {cell.name for cell in plan_cells(write(evaluation={"subsets": ["t1"]}))} & names
    assert {cell.name for cell in plan_cells(write(seeds=[0, 1, 2]))} > names


def test_settings_that_came_later_leave_old_names_as_they_are(write):
    """The hash as it was before a plan could ask for more metrics or a segmenter."""
    cells = plan_cells(write())
    for cell in cells:
        how = {**asdict(cell.evaluation)}
        del how["metrics"], how["downstream"]
        content = json.dumps([result_changing(cell.config), how], sort_keys=True, default=str)
        assert cell.name.endswith("-" + hashlib.sha256(content.encode()).hexdigest()[:6])
    names = {cell.name for cell in cells}
    subsets = {"subsets": ["flair+t1c", "t1"]}
    assert not {cell.name for cell in plan_cells(write(evaluation={**subsets, "metrics": "full"}))} & names
    assert {cell.name for cell in plan_cells(write(evaluation={**subsets, "downstream": "default"}))} == names, (
        "methods that complete nothing"
    )
    both = (
        write(methods=["u_hved"], evaluation=subsets),
        write(methods=["u_hved"], evaluation={**subsets, "downstream": "default"}),
    )
    assert not {cell.name for cell in plan_cells(both[0])} & {cell.name for cell in plan_cells(both[1])}


def test_one_network_a_subset_is_one_cell_a_subset(write, monkeypatch):
    from anymri.methods import get_method

    monkeypatch.setattr(get_method("unet"), "subsets", "per-subset")
    cells = plan_cells(write(seeds=[0]))
    own = [cell for cell in cells if cell.config.method.name == "unet"]
    assert [cell.config.method.config["subset"] for cell in own] == ["t1c+flair", "t1"]
    assert [cell.evaluation.subsets for cell in own] == [("t1c+flair",), ("t1",)]
    assert len({cell.kind for cell in own}) == 1
    few = plan_cells(write(seeds=[0], methods=[{"name": "unet", "subsets": ["t1"]}]))
    assert [cell.evaluation.subsets for cell in few] == [("t1",)]


def test_a_network_of_two_sequences_is_planned_for_subsets_of_two_alone(write):
    cells = plan_cells(write(seeds=[0], methods=["hi_net"], evaluation={"subsets": ["t1", "t1c+flair", "t1+t1c+t2"]}))
    assert [cell.config.method.config["subset"] for cell in cells] == ["t1c+flair"]


# --------------------------------------------------------------------------------------------- complete, then segment


def test_a_system_is_scored_after_its_two_networks_are_trained(write):
    unet = {"name": "unet", "config": {"width": 2}}
    systems = [{"name": name, "then": unet} for name in ("mm_gan", "u_hved")]
    cells = plan_cells(write(seeds=[0], methods=systems))
    assert [(cell.method, cell.scored, len(cell.parts)) for cell in cells] == [
        ("mm_gan", False, 0), ("unet", False, 0), ("u_hved", False, 0),
        ("mm_gan+unet", True, 2), ("u_hved+unet", True, 2),
    ]  # fmt: skip
    first, segmenter, second, *both = cells
    assert [[part.name for part in cell.parts] for cell in both] == [
        [first.name, segmenter.name],
        [second.name, segmenter.name],
    ], "one segmenter for all entries that say the same"
    assert segmenter.config.training.sampler == "all", "it learns from complete studies"
    assert len({cell.kind for cell in cells}) == 5
    assert len({cell.name for cell in plan_cells(write(seeds=[0, 1], methods=systems))}) == 10


def test_the_plans_own_entry_is_trained_once(write):
    own = {"name": "unet", "config": {"width": 2}, "training": {"lr": 0.01}}
    for training in ({"epochs": 1}, {"epochs": 1, "sampler": "size_then_subset"}):
        plan = write(seeds=[0], training=training, methods=[{"name": "mm_gan", "then": "unet"}, "mm_gan", own])
        cells = plan_cells(plan)
        assert [(cell.method, cell.scored) for cell in cells] == [
            ("mm_gan", True), ("unet", True), ("mm_gan+unet", True),
        ]  # fmt: skip
        assert [part.name for part in cells[2].parts] == [cell.name for cell in cells[:2]]
        assert cells[1].config.training.sampler == training.get("sampler")


def test_a_segmenter_of_one_subset_is_that_of_all_sequences(write):
    plan = write(seeds=[0], methods=[{"name": "mm_gan", "then": {"name": "nnunet_per_subset"}}])
    segmenter = plan_cells(plan)[-1].parts[1]
    assert segmenter.config.method.config["subset"] == "t1+t1c+t2+flair"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["unat"]}, ("unat", "unet")),
        ({"methods": []}, ("methods",)),
        ({"methods": [{"name": "unet", "config": {"wide": 3}}]}, ("wide", "width")),
        ({"methods": ["unet", "unet"]}, ("unet", "twice")),
        ({"methods": [{"name": "unet", "subsets": ["t1"]}]}, ("unet", "subsets")),
        ({"methods": [{"name": "unet", "trainig": {}}]}, ("trainig",)),
        ({"methods": [{"name": "unet", "then": {"name": "unet"}}]}, ("unet completes no sequences", "then")),
        ({"methods": [{"name": "mm_gan", "then": {"name": "mm_gan"}}]}, ("mm_gan is no segmenter",)),
        ({"methods": [{"name": "mm_gan", "then": "unet"}]}, ("then: unet", "0 entries")),
        (
            {"methods": [{"name": "mm_gan", "then": "unet"}, "unet", {"name": "unet", "config": {"width": 4}}]},
            ("2 ent",),
        ),
        ({"methods": [{"name": "mm_gan", "then": {"name": "unet", "widht": 2}}]}, ("widht",)),
        ({"methods": [{"name": "mm_gan", "then": {"name": "unet", "config": {"subset": "t1"}}}]}, ("config.subset",)),
        ({"training": {"epoch": 1}}, ("training.epoch", "training.epochs")),
        ({"evaluation": {"subsets": ["t7"]}}, ("evaluation.subsets", "t7")),
        ({"evaluation": {"overlap": 1}}, ("overlap",)),
        ({"evaluation": {"metrics": "best"}}, ("evaluation.metrics", "full")),
        ({"seeds": [-1]}, ("seeds",)),
        ({"data": {"cache": "nowhere"}}, ("nowhere", "anymri preprocess")),
        ({"method": ["unet"]}, ("method",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_named(write, changes, words):
    with pytest.raises(UserError) as caught:
        plan_cells(write(**changes))
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- unet\n", "a: [", "\0"])
def test_what_is_no_plan_is_refused(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"plan\.yaml"):
        load_plan(path)
    with pytest.raises(UserError, match="nowhere"):
        load_plan(tmp_path / "nowhere.yaml")


def test_the_plan_is_shown_with_its_time(write, tmp_path, table_writer):
    cells = plan_cells(write())
    seconds = {cells[0].kind: 30.0, cells[1].kind: 3600.0}
    text = describe_cells(cells, tmp_path, seconds)
    assert "threshold tiny: 2 cells, 0 done, about 1 min each" in text
    assert "unet tiny (width=2): 2 cells, 0 done, about 1 h 0 min each" in text
    assert text.endswith("in all 4 cells; about 2 h 1 min left")
    done = table_path(tmp_path, cells[1])
    done.parent.mkdir()
    done.touch()
    assert describe_cells(cells, tmp_path, seconds) == text, "a damaged table is none"
    table_writer(done, [])
    assert describe_cells(cells, tmp_path, seconds, workers=2).endswith("in all 4 cells; about 30 min left")
    assert describe_time(float("nan")) == "unknown time"
