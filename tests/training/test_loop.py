"""Stages, turns, random numbers, subjects and the run folder."""

import json

import pytest
import torch
import yaml

from anymri import methods
from anymri.config import load_run_config, to_plain, validate_run_config
from anymri.data.cache import Cache
from anymri.protocol.weights_file import read_header
from anymri.training import loop, preparation, train
from anymri.training.log import read_log
from anymri.training.machine import choose_device, memory_error
from anymri.types import Intensity, Stage, StepOutput, UserError


def weights(run):
    return dict(methods.load(run / "model.safetensors").state_dict().items())


def same(first, second):
    return all(torch.equal(first[key].nan_to_num(), second[key].nan_to_num()) for key in first)


@pytest.fixture
def watched(two_turns, monkeypatch):
    """Steps that a `two_turns` run takes, newest run last."""
    made = []
    create = methods.create

    def remember(*arguments, **config):
        made.append(create(*arguments, **config))
        return made[-1]

    monkeypatch.setattr(preparation, "create", remember)
    return made


# -------------------------------------------------------------------------------------------------- the run folder


def test_a_run_folder_holds_what_is_promised(make_config, tmp_path, cache_folder):
    config = make_config("u_hved", validate_every=2)
    run = train(config, tmp_path / "run", progress=False)
    assert run == tmp_path / "run"
    expected = (
        "checkpoint-a.pt checkpoint-b.pt checkpoint.json config.yaml log.jsonl model.safetensors progress.png run.json"
    )
    assert sorted(path.name for path in run.iterdir() if path.is_file()) == expected.split()

    header = read_header(run / "model.safetensors")
    facts = header.facts
    assert facts.spacing_mm == (1.0, 1.0, 1.0)
    assert facts.window == (16, 16, 16)
    assert facts.training_subjects == ("p0", "p1", "p2")
    assert (facts.seed, facts.fold, facts.preset) == (0, 0, "tiny")
    assert facts.dataset_fingerprint == Cache(cache_folder).fingerprint()
    assert facts.run.startswith("u_hved-tiny-balls-fold0-seed0-")
    assert facts.head["channels"] == ["background", "ncr", "edema", "et"]

    resolved = load_run_config(run / "config.yaml")
    assert resolved.method.config["widths"] == [2, 4]
    assert "lr" in resolved.method.config  # not only what the user wrote
    start, *epochs = read_log(run)
    assert start["event"] == "start"
    assert start["precision"] == "32"
    assert [row["epoch"] for row in epochs] == [1, 2]
    assert [row["step"] for row in epochs] == [2, 4]
    assert {"cross_entropy", "dice", "kl", "reconstruction"} <= set(epochs[0]["terms"])
    assert epochs[0]["lr"]["main"] > epochs[1]["lr"]["main"] > 0
    assert "validation" not in epochs[0]
    assert len(epochs[1]["validation"]) == 15
    assert set(epochs[1]["validation"]["t1c+flair"]) == {"whole_tumor", "tumor_core", "enhancing_tumor"}
    assert all(0 <= dice <= 1 for by in epochs[1]["validation"].values() for dice in by.values())


def test_the_same_settings_give_the_same_weights_and_another_seed_others(make_config, tmp_path):
    first = weights(train(make_config(), tmp_path / "1", progress=False))
    caller = torch.get_rng_state()
    watched = train(make_config(validate_every=1, checkpoint_every=9), tmp_path / "2", progress=False)
    assert torch.equal(torch.get_rng_state(), caller)  # the caller's random state is left alone
    assert same(first, weights(watched))  # watching does not change what is learnt
    assert not same(first, weights(train(make_config(seed=1), tmp_path / "3", progress=False)))


def test_a_finished_run_is_not_repeated_and_another_is_refused(make_config, tmp_path, monkeypatch):
    run = train(make_config(), tmp_path / "run", progress=False)
    written = (run / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(loop._Loop, "run", lambda self: pytest.fail("trained again"))
    same_elsewhere = make_config(threads=1, checkpoint_every=5)
    assert train(same_elsewhere, run, progress=False) == run
    with pytest.raises(UserError, match=r"another run \(its training.lr is None, not 0.5\)"):
        train(make_config(lr=0.5), run, progress=False)
    with pytest.raises(UserError, match=r"its method.config.widths is \[2, 4\], not \[2, 6\]"):
        train(make_config(config={"widths": [2, 6]}), run, progress=False)
    split = tmp_path / "other.json"
    split.write_text(json.dumps({"folds": [{"train": ["p0"], "validation": ["p3"]}]}))
    with pytest.raises(UserError, match="its training subjects differ"):
        train(make_config(data={"split": str(split)}), run, progress=False)
    assert (run / "model.safetensors").stat().st_mtime_ns == written
    monkeypatch.undo()
    train(make_config(lr=0.01), run, resume=False, progress=False)
    assert load_run_config(run / "config.yaml").training.lr == 0.01


def test_foreign_folders_and_files_are_left_alone(make_config, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis\.txt but no run"):
        train(make_config(), tmp_path, resume=False, progress=False)
    with pytest.raises(UserError, match="file"):
        train(make_config(), tmp_path / "thesis.txt", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# --------------------------------------------------------------------------------------- stages, turns, random numbers


@pytest.mark.parametrize(
    ("changes", "augment", "foreground"),
    [
        ({}, ["standard", "left_right"], [1 / 3, 0.5]),
        ({"augment": "none", "foreground": 0.0}, ["none", "none"], [0.0, 0.0]),
    ],
)
def test_crops_are_the_stages_unless_the_run_says_otherwise(make_config, two_turns, changes, augment, foreground):
    loaders = preparation.prepare(make_config("two_turns", **changes)).loaders
    assert [loader.augment for loader in loaders] == augment
    assert [loader.foreground for loader in loaders] == foreground


def test_turns_train_their_parameters_only_and_share_a_dictionary(make_config, tmp_path, watched):
    train(make_config("two_turns", accumulate=2), tmp_path / "run", progress=False)
    seen = watched[0].seen
    painter = {
        "painter.0.weight",
        "painter.0.bias",
        "painter.1.weight",
        "painter.1.bias",
        "painter.4.weight",
        "painter.4.bias",
    }
    critic = {"critic.weight", "critic.bias"}
    warm, main = [s for s in seen if s["stage"] == "warm"], [s for s in seen if s["stage"] == "main"]
    assert [s["turn"] for s in warm] == ["painter"] * 8  # 2 epochs x 2 steps x 2 micro-batches
    assert [s["turn"] for s in main] == ["critic", "critic", "painter", "painter"] * 4
    assert all(s["trainable"] == (critic if s["turn"] == "critic" else painter) for s in seen)
    # Gradients are cleared before a turn, and gathered over its micro-batches.
    assert all(s["gradients"] == (s["trainable"] if place % 2 else set()) for place, s in enumerate(seen))
    for first, second, third, fourth in zip(*(main[start::4] for start in range(4)), strict=True):
        assert first["shared"] is third["shared"]
        assert second["shared"] is fourth["shared"]
        assert first["shared"] is not second["shared"]
        assert (first["ids"], first["dropout"]) == (third["ids"], third["dropout"])  # random numbers repeat
        assert torch.equal(first["again"], third["again"])
        assert first["dropout"] != second["dropout"]
    draws = [s["dropout"] for s in seen if s["turn"] == "painter"]
    assert len(set(draws)) == len(draws)
    assert [s["progress"] for s in warm] == [0.0, 0.0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    for s in seen:
        assert not (s["available"] & ~s["present"]).any()
        assert s["available"].any(dim=1).all()
    assert len({str(s["available"].tolist()) for s in warm}) > 3
    for parameter in ("spare.weight", "spare.bias"):
        assert parameter not in set().union(*(s["trainable"] for s in seen))


def test_the_drawn_subsets_follow_the_seed(make_config, tmp_path, watched):
    split = tmp_path / "complete.json"
    split.write_text(json.dumps({"folds": [{"train": ["p0", "p2"], "validation": []}]}))  # both have every sequence
    for seed in (0, 1):
        config = make_config("two_turns", seed=seed, data={"split": str(split)})
        train(config, tmp_path / str(seed), progress=False)
    shown = [[step["available"].tolist() for step in method.seen] for method in watched]
    assert shown[0] != shown[1]


def test_rates_and_terms_of_several_turns_are_told_apart(make_config, tmp_path, two_turns):
    run = train(make_config("two_turns", validate_every=1), tmp_path / "run", progress=False)
    warm, _, main, _ = read_log(run)[1:]
    assert warm["stage"] == "warm"
    assert set(warm["terms"]) == {"cross_entropy"}
    assert set(main["terms"]) == {"painter.cross_entropy", "painter.loss", "critic.square", "critic.loss"}
    assert main["loss"] == pytest.approx(main["terms"]["painter.loss"] + main["terms"]["critic.loss"])
    assert main["lr"]["critic"] == 0.01
    assert len(main["lr"]["painter"]) == 2
    assert set(main["validation"]) == {"t1c+flair", "t1+t1c+flair"}  # the subsets the method serves


def test_the_best_epoch_is_kept_where_the_stage_asks_for_it(make_config, tmp_path, two_turns, monkeypatch):
    scores, kept = iter([0.1, 0.2, 0.9, 0.3]), []

    def judge(method, *arguments):
        kept.append({key: value.clone() for key, value in method.state_dict().items()})
        return {"t1c+flair": {"whole_tumor": next(scores)}}

    monkeypatch.setattr(loop, "validate", judge)
    run = train(make_config("two_turns", validate_every=1), tmp_path / "run", progress=False)
    assert same(weights(run), kept[2])
    assert not same(weights(run), kept[3])


def test_accumulated_micro_batches_equal_one_large_batch(make_config, tmp_path, monkeypatch):
    """Two micro-batches of one subject each and one batch of two give the same first update."""
    found = {}

    def step(self, batch, ctx):
        return StepOutput(next(self.parameters()).sum() * batch.statistics[:, 1, 0].mean(), {})

    def remember(self, turn, factor):
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        found[self.settings.accumulate] = gradients[0].flatten()[0].item()

    monkeypatch.setattr(methods.get_method("u_hemis"), "training_step", step)
    monkeypatch.setattr(loop._Loop, "_update", remember)
    for accumulate in (1, 2):
        config = make_config(epochs=1, steps_per_epoch=1, batch_size=2 // accumulate, accumulate=accumulate)
        train(config, tmp_path / str(accumulate), progress=False)
    assert found[1] == pytest.approx(found[2], rel=1e-6)


def test_a_turn_without_loss_changes_nothing(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(methods.get_method("u_hemis"), "training_step", lambda self, batch, ctx: StepOutput(None, {}))
    run = train(make_config(), tmp_path / "run", progress=False)
    torch.manual_seed(preparation.seed_from(0, "weights"))
    fresh = methods.create("u_hemis", preset="tiny", widths=[2, 4]).state_dict()
    trained = weights(run)
    fresh.pop("median_statistics")
    assert same(fresh, trained)
    assert read_log(run)[1]["loss"] is None


def test_images_arrive_on_the_methods_scale(make_config, tmp_path, watched, two_turns, monkeypatch):
    monkeypatch.setattr(two_turns, "intensity", Intensity("unit"))
    ranges = []

    def step(self, batch, ctx):
        ranges.append(batch.image[~batch.image.isnan()].aminmax())
        return StepOutput(None, {})

    monkeypatch.setattr(two_turns, "training_step", step)
    train(make_config("two_turns"), tmp_path / "run", progress=False)
    assert all(low >= 0 and high <= 1 for low, high in ranges)
    assert max(high for _, high in ranges) > 0.9


def test_a_loss_that_is_not_a_number_stops_the_run(make_config, tmp_path, monkeypatch):
    def step(self, batch, ctx):
        return StepOutput(next(self.parameters()).sum() * torch.nan, {})

    monkeypatch.setattr(methods.get_method("u_hemis"), "training_step", step)
    with pytest.raises(UserError, match=r"loss is nan in epoch 1 .* lower training\.lr"):
        train(make_config(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint.json").exists()


def test_bf16_computes_in_bf16_and_keeps_weights_in_32_bits(make_config, tmp_path, two_turns, monkeypatch):
    seen = []
    decode = two_turns.decode

    def spy(self, *arguments, **settings):
        prediction = decode(self, *arguments, **settings)
        seen.append(
            (prediction.logits.dtype, self.painter[0].weight.is_contiguous(memory_format=torch.channels_last_3d))
        )
        return prediction

    monkeypatch.setattr(two_turns, "decode", spy)
    run = train(make_config("two_turns", precision="bf16"), tmp_path / "run", progress=False)
    assert set(seen) == {(torch.bfloat16, True)}
    assert {value.dtype for value in weights(run).values()} == {torch.float32, torch.int64}


# ---------------------------------------------------------------------------------------------- subjects and starts


def test_subjects_that_lack_what_is_needed_are_dropped_and_counted(
    make_config, tmp_path, two_turns, monkeypatch, capsys
):
    everything = {"split": None}
    monkeypatch.setattr(two_turns, "needs", "complete")
    run = train(make_config("two_turns", data=everything), tmp_path / "complete")
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert card["training_subjects"] == ["p0", "p2", "p3"]
    assert card["dropped_subjects"] == {"without t2": 1, "without a label map": 1}
    assert "1 training subjects left out: without t2" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(two_turns, "needs", ("t1c", "flair"))
    run = train(make_config("two_turns", data=everything), tmp_path / "some", progress=False)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["training_subjects"] == ["p0", "p1", "p2", "p3"]
    split = tmp_path / "one.json"
    split.write_text(json.dumps({"folds": [{"train": ["p1"]}]}))
    monkeypatch.setattr(two_turns, "needs", ("t2",))
    with pytest.raises(UserError, match=r"no training subject left \(1 without t2\)"):
        train(make_config("two_turns", data={"split": str(split)}), tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_median_statistics_come_from_the_training_subjects(make_config, tmp_path, cache_folder):
    run = train(make_config(), tmp_path / "run", progress=False)
    cache = Cache(cache_folder)
    rows = torch.stack([torch.from_numpy(cache.entry(name).statistics) for name in ("p0", "p1", "p2")])
    expected = rows.nanmedian(dim=0).values
    assert expected.isfinite().all()
    assert torch.equal(weights(run)["median_statistics"][0], expected)


def test_training_starts_from_given_weights(make_config, tmp_path, monkeypatch):
    start = train(make_config(), tmp_path / "start", progress=False)
    tuned = train(make_config(config={}, init=str(start), lr=1e-12, epochs=1), tmp_path / "tuned", progress=False)
    first, second = weights(start), weights(tuned)
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in first)  # sizes came with the weights
    assert load_run_config(tuned / "config.yaml").method.config["widths"] == [2, 4]
    with pytest.raises(UserError, match="holds weights of u_hemis, not u_hved"):
        train(make_config("u_hved", init=str(start)), tmp_path / "no", progress=False)
    with pytest.raises(UserError, match=r"does not fit method\.config"):
        train(make_config(config={"widths": [3, 4]}, init=str(start)), tmp_path / "no", progress=False)
    with pytest.raises(UserError, match="unknown model 'nonsense'"):
        train(make_config(init="nonsense"), tmp_path / "no", progress=False)
    assert not (tmp_path / "no").exists()


def test_classical_methods_are_fitted_on_whole_volumes(make_config, tmp_path):
    config = make_config("threshold", patch=None, batch_size=None, epochs=None)
    run = train(config, tmp_path / "run", progress=False)
    (row,) = read_log(run)
    assert row["terms"]["dice_flair"] > 0.5
    assert methods.load(run / "model.safetensors").lesion_threshold[3].item() == row["terms"]["threshold_flair"]
    written = (run / "model.safetensors").stat().st_mtime_ns
    assert train(config, run, progress=False) == run
    assert (run / "model.safetensors").stat().st_mtime_ns == written


# ------------------------------------------------------------------------------------------------- mistakes, machine


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sampler": "unifrom_subset"}, "did you mean 'uniform_subset'"),
        ({"augment": "wild"}, "unknown augmentation 'wild'"),
        ({"patch": [16, 15, 16]}, "training.patch holds 15; u_hemis needs multiples of 2"),
        ({"device": "cuda:63"}, "training.device=cuda:63"),
        ({"config": {"witdhs": [2]}}, "did you mean 'widths'"),
        ({"method": "u_hamis"}, "unknown method"),
        ({"data": {"fold": 4}}, "fold 4"),
        ({"data": {"train_part": "trian"}}, "trian"),
        ({"data": {"train_part": "test"}}, "no training subject left (the part is empty)"),
        ({"data": {"cache": "nowhere"}}, "nowhere"),
        ({"data": {"split": "nowhere.json"}}, "nowhere.json"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(make_config, tmp_path, changes, says):
    with pytest.raises(UserError) as raised:
        train(make_config(**changes), tmp_path / "run", progress=False)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_out_of_memory_names_the_key_to_lower(make_config, tmp_path, monkeypatch):
    def step(self, batch, ctx):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(methods.get_method("u_hemis"), "training_step", step)
    with pytest.raises(
        UserError, match=r"batch_size 2 and patch 16x16x16; lower training\.batch_size or training\.patch"
    ):
        train(make_config(), tmp_path / "run", progress=False)
    assert memory_error(ValueError("no"), Stage("s", 1, 1, None, "all")) is None
    assert "lower training.patch" in str(memory_error(MemoryError(), Stage("s", 1, 1, None, "all")))


def test_auto_precision_follows_the_processor(make_config, monkeypatch):
    settings = make_config(precision="auto").training
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose_device(settings) == ("cpu", "bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    assert choose_device(settings) == ("cpu", "32")


def test_threads_are_set_for_the_run_only(make_config, tmp_path):
    before = torch.get_num_threads()
    run = train(make_config(threads=2, epochs=1, steps_per_epoch=1), tmp_path / "run", progress=False)
    assert read_log(run)[0]["threads"] == 2
    assert torch.get_num_threads() == before
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["training"]["threads"] == 2
    assert validate_run_config(to_plain(load_run_config(run / "config.yaml"))).training.threads == 2


def test_an_epoch_is_one_pass_and_repeated_subjects_are_shown_more_often(make_config, two_turns, monkeypatch):
    stage = Stage("only", epochs=1, batch_size=2, patch=(12, 12, 12), sampler="all")
    monkeypatch.setattr(two_turns, "presets", {"tiny": methods.Preset((stage,))})
    (plain,) = preparation.prepare(make_config("two_turns")).loaders
    assert (plain.subject_ids, plain.steps_per_epoch) == (("p0", "p1", "p2"), 2)
    repeat = {"repeat": {"p0": 3, "p[01]": 2}}  # the first pattern that fits counts
    (more,) = preparation.prepare(make_config("two_turns", data=repeat, accumulate=2)).loaders
    assert sorted(more.subject_ids) == ["p0", "p0", "p0", "p1", "p1", "p2"]
    assert more.steps_per_epoch == 4  # two optimiser steps of two micro-batches of two
    with pytest.raises(UserError, match=r"data\.repeat: no training subject fits 'q\*'"):
        preparation.prepare(make_config("two_turns", data={"repeat": {"q*": 2}}))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["spare.weight", "painter.1.running_var"])
def test_a_weight_that_is_no_number_stops_the_run_though_the_loss_is_one(
    make_config, tmp_path, two_turns, monkeypatch, name, bad
):
    def spoil(self, stage, epoch, cohort):
        if stage.name == "main":
            self.state_dict()[name].view(-1)[0] = bad

    monkeypatch.setattr(two_turns, "end_epoch", spoil)
    words = rf"hold NaN or infinite values after epoch 1 of stage main \(1 tensors, first {name}\); lower training\.lr"
    with pytest.raises(UserError, match=words):
        train(make_config("two_turns"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_classical_system_whose_fit_gives_no_number_is_not_saved(make_config, tmp_path, monkeypatch):
    def fit(self, subjects, ctx):
        self.lesion_threshold[0] = torch.nan
        return {}

    monkeypatch.setattr(methods.get_method("threshold"), "fit", fit)
    with pytest.raises(UserError, match=r"at the end of training \(1 tensors, first lesion_threshold\)"):
        train(make_config("threshold", patch=None, batch_size=None, epochs=None), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
