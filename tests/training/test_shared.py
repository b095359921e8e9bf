"""A stage that runs of several subsets share is trained once and leaves what each run would have trained alone."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from anymri import methods
from anymri.benchmark.plan import BenchmarkPlan, EvaluationSection, MethodEntry, plan_cells
from anymri.benchmark.run import run_cell
from anymri.methods import MethodConfig, MethodInfo, PerSubset, Preset
from anymri.protocol.weights_file import seal_tensors
from anymri.training import train
from anymri.training.checkpoint import CheckpointStore
from anymri.training.log import read_log
from anymri.training.shared import SharedStages
from anymri.types import GLIOMA, Head, Prediction, Stage, StepOutput, UserError

STEPS = []


class Taught(PerSubset):
    """A teacher of all sequences, then a student of the subset that follows it."""

    name = "taught"
    info = MethodInfo(title="Taught", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {
        "tiny": Preset(
            (
                Stage("teach", 2, 2, (12,) * 3, "all", 2, needs="complete", shared=True, ema=0.5),
                Stage("distil", 1, 1, (12,) * 3, "all", 2),
            )
        )
    }

    def __init__(self, config=MethodConfig(), spec=GLIOMA):
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.teacher = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4), nn.Dropout(0.2))
        self.student = nn.Conv3d(len(self.subset_modalities), 4, 3, padding=1)
        self.register_buffer("taught", torch.zeros(0))

    def predict_subset(self, sources, available):
        return Prediction(logits=self.student(sources))

    def turns(self, stage):
        part = self.teacher if stage.name == "teach" else self.student
        return {"main": [{"params": list(part.parameters())}]}

    def start_stage(self, stage, cohort):
        if stage.name == "teach":
            self.taught = torch.rand(2)

    def training_step(self, batch, ctx):
        STEPS.append(ctx.stage.name)
        goal = self.teacher(batch.image.nan_to_num()).float()
        if ctx.stage.name == "teach":
            return StepOutput.of({"cross_entropy": nn.functional.cross_entropy(goal, batch.label)})
        made = self.student(self.take_own(batch.image, batch.present)).float()
        return StepOutput.of({"distance": (made - goal.detach()).square().mean()})


@pytest.fixture
def run(make_config, tmp_path, monkeypatch):
    """Train one subset below a folder; gives the run and the stages whose steps were trained."""
    monkeypatch.setitem(methods.METHODS, "taught", f"{__name__}:Taught")

    def work(folder, subset, **training):
        STEPS.clear()
        unset = {"epochs": None, "steps_per_epoch": None, "batch_size": None, "patch": None}
        config = make_config("taught", {"subset": subset}, **unset | training)
        return train(config, tmp_path / folder / f"{subset}{training.get('seed', '')}", progress=False), list(STEPS)

    return work


def content(run):
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def test_the_second_subset_takes_the_teacher_that_it_would_have_trained(run, tmp_path):
    alone = {subset: run(subset, subset)[0] for subset in ("t1", "t1+flair")}
    first, steps = run("together", "t1")
    assert steps == ["teach"] * 4 + ["distil"] * 2
    second, steps = run("together", "t1+flair")
    assert steps == ["distil"] * 2
    assert content(first) == content(alone["t1"])
    assert content(second) == content(alone["t1+flair"])
    teachers = [
        {k: v for k, v in methods.load(one / "model.safetensors").state_dict().items() if k.startswith("t")}
        for one in (first, second)
    ]
    assert len(teachers[0]) == 8  # weights, running statistics and what the hook noted
    assert len(teachers[0]["taught"]) == 2
    assert all(torch.equal(value, teachers[1][key]) for key, value in teachers[0].items())
    (stored,) = (tmp_path / "together" / "shared").iterdir()
    told = [row for row in read_log(second) if row.get("event") == "shared"]
    assert told == [{"event": "shared", "stage": "teach", "weights": stored.stem}]
    assert read_log(second)[-1]["step"] == read_log(alone["t1+flair"])[-1]["step"] == 6


def test_what_the_teacher_follows_from_is_not_shared(run, tmp_path, monkeypatch):
    """Another seed, rate, code or start trains a teacher of its own; so does a damaged file."""
    both = ["teach"] * 4 + ["distil"] * 2
    assert run("runs", "t1")[1] == both
    assert run("runs", "t2", seed=1)[1] == both
    assert run("runs", "t1c", lr=0.02)[1] == both
    assert len(list((tmp_path / "runs" / "shared").iterdir())) == 3
    monkeypatch.setattr("anymri.training.preparation.training_code", lambda cls: "0123456789abcdef")
    assert run("runs", "flair")[1] == both
    monkeypatch.undo()
    monkeypatch.setitem(methods.METHODS, "taught", f"{__name__}:Taught")
    build = Taught.__init__

    def student_first(self, config=MethodConfig(), spec=GLIOMA):
        torch.rand(len(config.subset))  # as a network of the subset, built first, would draw
        build(self, config, spec)

    monkeypatch.setattr(Taught, "__init__", student_first)
    assert run("runs", "t1+flair")[1] == both
    monkeypatch.setattr(Taught, "__init__", build)
    for path in (tmp_path / "runs" / "shared").iterdir():
        path.write_bytes(path.read_bytes()[:-8])
    assert run("runs", "t1+t2")[1] == both


def test_a_run_that_took_a_teacher_goes_on_as_if_unbroken(run, tmp_path, monkeypatch):
    whole, _ = run("whole", "flair")
    run("runs", "t1")

    class Died(Exception):
        pass

    def die(name):
        if name == "pointer: sync folder":
            raise Died

    for folder, subset in (("alone", "flair"), ("runs", "flair")):  # within the stage, and after taking it
        monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(die))
        with pytest.raises(Died):
            run(folder, subset)
        monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(lambda name: None))
        again, steps = run(folder, subset)
        assert steps == (["teach"] * 2 if folder == "alone" else []) + ["distil"] * 2
        assert content(again) == content(whole)
    # What the broken run left is what the unbroken one left.
    stored = [next((tmp_path / folder / "shared").iterdir()) for folder in ("whole", "alone", "runs")]
    assert len({path.name for path in stored}) == len({path.read_bytes() for path in stored}) == 1


def test_a_benchmark_trains_the_teacher_once(run, make_config, tmp_path):
    config = make_config("taught")
    plan = BenchmarkPlan(
        data={"cache": config.data.cache, "split": config.data.split},
        methods=(MethodEntry(name="taught", subsets=("t1", "flair")),),
        training={"device": "cpu", "precision": "32"},
        evaluation=EvaluationSection(part="validation", hd95=False, pictures=False, precision="32"),
    )
    STEPS.clear()
    tables = [run_cell(cell, tmp_path) for cell in plan_cells(plan)]
    assert all(table.is_file() for table in tables)
    assert len(list((tmp_path / "shared").iterdir())) == 1
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert STEPS.count("teach") == 4
    assert STEPS.count("distil") == 4


def test_a_shared_stage_stands_first_and_keeps_its_last_weights(run, monkeypatch):
    with pytest.raises(ValueError, match="a shared stage ends with its last weights"):
        Stage("teach", 1, 1, None, "all", shared=True, select="best")
    stages = (Stage("own", 1, 1, (12,) * 3, "all"), Stage("teach", 1, 1, (12,) * 3, "all", shared=True))
    monkeypatch.setattr(Taught, "presets", {"tiny": Preset(stages)})
    with pytest.raises(ValueError, match="the stages before it must be shared too"):
        run("runs", "t1")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 0.5])
def test_a_teacher_whose_weights_were_changed_or_are_no_numbers_is_trained_anew(run, tmp_path, bad):
    alone, _ = run("alone", "t1+flair")
    run("together", "t1")
    (stored,) = (tmp_path / "together" / "shared").iterdir()
    state = load_file(stored)
    next(value for value in state.values() if value.is_floating_point()).view(-1)[0] = bad
    if bad == 0.5:  # a number, but another one
        save_file(state, stored)
    else:
        stored.write_bytes(seal_tensors(state, {}))
    second, steps = run("together", "t1+flair")
    assert steps == ["teach"] * 4 + ["distil"] * 2
    assert content(second) == content(alone)


@pytest.mark.parametrize("act", ["take", "keep"])
def test_a_key_names_a_file_of_the_folder(tmp_path, act):
    stages = SharedStages(tmp_path / "shared", None)
    with pytest.raises(UserError, match="is not the plain name"):
        getattr(stages, act)("../other", {})
