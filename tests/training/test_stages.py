"""What a stage offers: subjects of its own, hooks, further batches within a step, frozen parts, an average."""

import json
from pathlib import Path

import pytest
import torch

from anymri import methods
from anymri.data.cache import Cache
from anymri.training import preparation, train
from anymri.training.checkpoint import CheckpointStore
from anymri.training.log import read_log
from anymri.types import Intensity, Stage, StepOutput, UserError


@pytest.fixture
def hooked(monkeypatch):
    """Class of the test method; it is in the table while the test runs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(methods.METHODS, "hooked", "hooked:Hooked")
    return methods.get_method("hooked")


@pytest.fixture
def trained(hooked, make_config, tmp_path, monkeypatch):
    """Train a `Hooked` into a new folder; gives the method and the folder."""
    made = []
    create = methods.create

    def remember(*arguments, **config):
        made.append(create(*arguments, **config))
        return made[-1]

    monkeypatch.setattr(preparation, "create", remember)

    def run(folder="run", **training):
        config = make_config(
            "hooked", **{"epochs": None, "steps_per_epoch": None, "batch_size": None, "patch": None} | training
        )
        train(config, tmp_path / folder, progress=False)
        return made[-1], tmp_path / folder

    return run


def weights(run):
    return dict(methods.load(run / "model.safetensors").state_dict().items())


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key].nan_to_num(), second[key].nan_to_num()) for key in first
    )


# ------------------------------------------------------------------------------------------------------------- hooks


def test_hooks_are_called_when_they_say(trained):
    method, _ = trained()
    warm = [event for event in method.events if event[1] == "warm"]
    epochs = [
        [("step", "warm", "painter", e), ("after_step", "warm", "painter", e, False)] * 2
        + [("end_epoch", "warm", e, True, False)]
        for e in (0, 1)
    ]
    # In evaluation mode and before optimisers are made; later ones in training mode; none with gradients.
    start = [("start_stage", "warm", False, False, ("p0", "p2")), ("turns", "warm")]
    assert warm == [*start, *epochs[0], *epochs[1]]
    main = [event[:3] for event in method.events if event[1] == "main" and event[0] in ("step", "after_step")]
    step = [("step", "main", "critic"), ("after_step", "main", "critic")]
    step += [("step", "main", "painter"), ("after_step", "main", "painter")]
    assert main == step * 4


def test_a_skipped_turn_has_no_step_to_act_after(trained, hooked, monkeypatch):
    monkeypatch.setattr(hooked, "training_step", lambda self, batch, ctx: StepOutput(None, {}))
    method, _ = trained()
    assert not [event for event in method.events if event[0] == "after_step"]
    assert len([event for event in method.events if event[0] == "end_epoch"]) == 4


def test_the_cohort_holds_whole_volumes_on_the_methods_scale(trained, hooked, monkeypatch, cache_folder):
    kept = []
    monkeypatch.setattr(hooked, "intensity", Intensity("unit"))

    def start_stage(self, stage, cohort):
        kept.append((cohort, list(cohort.volumes), list(cohort.volumes)))

    monkeypatch.setattr(hooked, "start_stage", start_stage)
    trained()
    (warm, first, repeated), (main, second, _) = kept
    assert (warm.subject_ids, main.subject_ids) == (("p0", "p2"), ("p1",))
    assert warm.present.all()
    assert main.present.tolist() == [[True, True, False, True]]
    assert (warm.steps, main.steps) == (4, 4)
    for batch, subject in zip([*first, *second], ("p0", "p2", "p1"), strict=True):
        entry = Cache(cache_folder).entry(subject)
        assert batch.subject_ids == (subject,)
        start, stop = entry.frame(entry.present)[0]
        assert batch.image.shape[1:] == (len(entry.image), *(stop - start))
        known = batch.image[~batch.image.isnan()]
        assert 0 <= known.min() < known.max() <= 1
        assert not (batch.available & ~batch.present).any()
    assert not all(batch.available.all() for batch in first)  # drawn by the stage's sampler
    for batch, again in zip(first, repeated, strict=True):
        assert torch.equal(batch.available, again.available)


def test_a_run_goes_on_after_every_checkpoint_as_if_unbroken(trained, tmp_path, monkeypatch):
    """Buffers that a hook made larger come back, hooks are not called twice, further batches and averages agree."""
    _, whole = trained("whole", validate_every=1)

    class Died(Exception):
        pass

    for count in (1, 2, 3):
        passed = []

        def die(name, count=count, passed=passed):
            passed.append(name)
            if passed.count("pointer: sync folder") == count:
                raise Died

        monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(die))
        with pytest.raises(Died):
            trained(str(count), validate_every=1)
        monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(lambda name: None))
        method, run = trained(str(count), validate_every=1)
        starts = [event[1] for event in method.events if event[0] == "start_stage"]
        assert starts == (["main"] if count < 3 else [])
        assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        rows, expected = ([{**row, "seconds": 0} for row in read_log(folder)] for folder in (run, whole))
        assert rows == expected


# ----------------------------------------------------------------------------------------------------------- batches


def test_further_batches_have_the_asked_subjects_and_repeat_with_the_step(trained, hooked, monkeypatch):
    monkeypatch.setattr(hooked, "intensity", Intensity("unit"))
    first, second = trained("1")[0], trained("2")[0]
    warm, main = ([s for s in first.seen if s["stage"] == name and "further" in s] for name in ("warm", "main"))
    for step in warm:
        again, complete = step["further"]
        assert again.subject_ids == step["ids"]
        assert complete.present.all()
        assert len(complete.subject_ids) == 2  # the stage's batch size
    for step in main:  # its own batches are of partial subjects, and it may draw complete ones
        assert step["ids"] == ("p1",)
        assert [batch.subject_ids[0] for batch in step["further"]][1] == "p1"
        assert step["further"][0].subject_ids[0] in ("p0", "p2")
    assert {step["further"][0].subject_ids for step in main} == {("p0",), ("p2",)}
    everything = [batch for step in [*warm, *main] for batch in step["further"]]
    for batch in everything:
        known = batch.image[~batch.image.isnan()]
        assert 0 <= known.min() < known.max() <= 1
        assert batch.image.shape[2:] == (12, 12, 12)
        assert not (batch.available & ~batch.present).any()
    assert not all(batch.available.equal(batch.present) for batch in everything)
    # No crop is shown twice, and another run of the same seed draws the same.
    assert len({batch.image.nan_to_num().numpy().tobytes() for batch in everything}) == len(everything)
    repeated = [batch for step in second.seen for batch in step.get("further", ())]
    for batch, other in zip(everything, repeated, strict=True):
        assert torch.equal(batch.image.nan_to_num(), other.image.nan_to_num())
        assert torch.equal(batch.available, other.available)
    other_seed = [batch for step in trained("3", seed=1)[0].seen for batch in step.get("further", ())]
    assert not all(torch.equal(a.where.origin, b.where.origin) for a, b in zip(everything, other_seed, strict=True))


def test_every_turn_of_a_step_draws_the_same_further_batch(trained, hooked, monkeypatch):
    drawn = []

    def step(self, batch, ctx):
        drawn.append((ctx.stage.name, ctx.turn, ctx.next_batch("complete"), ctx.next_batch("complete")))
        return StepOutput(None, {})

    monkeypatch.setattr(hooked, "training_step", step)
    trained()
    main = [entry[2:] for entry in drawn if entry[0] == "main"]
    for critic, painter in zip(main[::2], main[1::2], strict=True):
        for first, second in zip(critic, painter, strict=True):
            assert torch.equal(first.image, second.image)
            assert torch.equal(first.available, second.available)
        assert not torch.equal(critic[0].image, critic[1].image)


def test_a_role_that_no_subject_has_is_refused(trained, hooked, monkeypatch):
    monkeypatch.setattr(hooked, "training_step", lambda self, batch, ctx: ctx.next_batch("partial"))
    with pytest.raises(UserError, match="no partial subject to train on"):
        trained()  # the first stage needs T2, which every subject without all sequences lacks


# ---------------------------------------------------------------------------------------------------------- subjects


def test_each_stage_counts_its_own_subjects(hooked, make_config, tmp_path, capsys):
    unset = {"epochs": None, "steps_per_epoch": None, "batch_size": None, "patch": None}
    run = train(make_config("hooked", data={"split": None}, **unset), tmp_path / "run")
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert card["training_subjects"] == ["p0", "p1", "p2", "p3"]
    assert card["dropped_subjects"] == {"without a label map": 1}
    expected = {
        "warm": {"subjects": 3, "left_out": {"without t2": 1, "without a label map": 1}},
        "main": {"subjects": 1, "left_out": {"with every sequence": 3, "without a label map": 1}},
    }
    assert card["stage_subjects"] == read_log(run)[0]["stage_subjects"] == expected
    said = " ".join(capsys.readouterr().err.split())
    assert "1 training subjects left out of stage warm: without t2" in said
    assert "3 training subjects left out of stage main: with every sequence" in said


def test_a_stage_without_subjects_is_refused_by_name(make_config, tmp_path, two_turns, monkeypatch):
    stages = (Stage("first", 1, 1, (12,) * 3, "all", 1), Stage("second", 1, 1, (12,) * 3, "all", 1, subjects="partial"))
    monkeypatch.setattr(two_turns, "presets", {"tiny": methods.Preset(stages)})
    split = tmp_path / "complete.json"
    split.write_text(json.dumps({"folds": [{"train": ["p0", "p2"]}]}))
    with pytest.raises(UserError, match=r"no training subject left for stage second \(2 with every sequence\)"):
        train(make_config("two_turns", data={"split": str(split)}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_stage_may_need_less_than_the_method(make_config, two_turns, monkeypatch):
    stage = Stage("first", 1, 1, (12,) * 3, "all", 1)
    presets = {"tiny": methods.Preset((stage, Stage("second", 1, 1, (12,) * 3, "all", 1, needs="any")))}
    monkeypatch.setattr(two_turns, "presets", presets)
    monkeypatch.setattr(two_turns, "needs", "complete")
    plan = preparation.prepare(make_config("two_turns"))
    assert [one.trained for one in plan.stage_subjects] == [("p0", "p2"), ("p0", "p1", "p2")]
    assert [loader.subject_ids for loader in plan.loaders] == [("p0", "p2"), ("p0", "p1", "p2")]


def test_new_fields_leave_the_identity_of_earlier_runs(make_config, two_turns):
    stages = preparation.prepare(make_config("two_turns")).facts["stages"]
    assert set(stages[0]).isdisjoint(preparation.NEWER_FIELDS)


# ------------------------------------------------------------------------------------------------- frozen and average


def test_what_a_stage_does_not_train_rests(trained, hooked, monkeypatch):
    """Dropout and running statistics of the follower; the painter's move."""
    before = {}

    def start_stage(self, stage, cohort):
        before[stage.name] = {key: value.clone() for key, value in self.state_dict().items()}

    def end_epoch(self, stage, epoch, cohort):
        for name, moved in (("follower.1", False), ("painter.1", True)):
            key = f"{name}.running_mean"
            assert torch.equal(self.state_dict()[key], before[stage.name][key]) != moved

    monkeypatch.setattr(hooked, "start_stage", start_stage)
    monkeypatch.setattr(hooked, "end_epoch", end_epoch)
    method, _ = trained(validate_every=1)  # which puts everything into evaluation mode in between
    assert {step["modes"] for step in method.seen if "modes" in step} == {(True, False)}


@pytest.mark.parametrize(("setting", "decay"), [(None, 0.2), (0.05, 0.05)])
def test_a_stage_ends_with_its_own_moving_average(trained, hooked, monkeypatch, setting, decay):
    """By hand, on one weight; `training.ema` replaces the stage's decay."""
    seen = []

    def after_step(self, stage, turn, ctx):
        if stage.name == "warm":
            seen.append(self.painter[0].weight[0, 0, 0, 0, 0].item())

    def start_stage(self, stage, cohort):
        seen.append(self.painter[0].weight[0, 0, 0, 0, 0].item())

    monkeypatch.setattr(hooked, "after_step", after_step)
    monkeypatch.setattr(hooked, "start_stage", start_stage)
    trained(ema=setting)
    first, *steps, ended = seen
    average = first
    for count, value in enumerate(steps):
        average += (1 - min(decay, (1 + count) / (10 + count))) * (value - average)
    assert len(steps) == 4
    assert ended == pytest.approx(average, abs=1e-6)
    assert ended != pytest.approx(steps[-1], abs=1e-5)


def test_a_decay_outside_0_and_1_is_refused():
    with pytest.raises(ValueError, match="ema"):
        Stage("s", 1, 1, None, "all", ema=1.0)
