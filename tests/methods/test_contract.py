"""One contract for every method of the table: what is absent has no influence, and every part learns."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from conftest import SUBSETS, build_preset, draw_fewer, make_batch, run_turns, served, size_for

from anymri.methods import Family, Method, StepContext, SubsetNotTrained, get_method, list_methods
from anymri.methods._template import Template
from anymri.methods.base import divisors
from anymri.training.machine import trains_in_bf16
from anymri.types import GLIOMA, DataSpec, UserError

#: Parameters and buffers (regular expressions) that hold modalities along an axis instead of by name.
PER_CHANNEL = {
    "acn": {r"(full|missing)\.encoder\.levels\.0\.arrive\.weight": 1},
    "m3ae": {r"encoder\.levels\.0\.arrive\.weight": 1, r"reconstruction\..*": 0},
    "mm_gan": {
        r"generator\.down\.0\.conv\.weight": 1,
        r"generator\.last\..*": 0,
        r"discriminator\.last\.weight": 0,
    },
    "mmcformer": {r"(full|missing)\.encoder\.levels\.0\.embed\.weight": 1, r"reconstruction\.last\.weight": 0},
    "nnunet_per_subset": {r"network\.down\.0\.0\.conv\.weight": 1},
    "resvit": {r"generator\.encoder\.1\.weight": 1},
    "resvit_unified": {r"generator\.encoder\.1\.weight": 1, r"generator\.decoder\.7\..*": 0},
    "robust_seg": {r"fusions\.\d+\.gate\.convs\..*\.weight": 0, r"fusions\.\d+\.gate_bias": 0},
    "smu_net": {r"(full|missing)\.encoder\.levels\.0\.arrive\.weight": 1},
    "threshold": {r"lesion_threshold": 0},
    "unet": {r"down\.0\.first\.conv\.weight": 1, r".*\.modulation\.weight": 1, r"image_head\..*": 0},
}

#: Without AMX oneDNN's weight gradients of small volumes read memory nobody wrote.
HAS_BF16 = trains_in_bf16("cpu")

FIVE = DataSpec(
    ("t1", "t1c", "t2", "flair", "dwi"), labels={"lesion": 1, "core": 2}, regions={"lesion": ("lesion", "core")}
)


def predict(method, image, available, **options):
    with torch.inference_mode():
        return method.predict(image, available, **options)


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(torch.nan_to_num(a.float(), 7.0), torch.nan_to_num(b.float(), 7.0))


def main_output(prediction):
    """Logits; of a system that only synthesises, its images with 0 in the channels it does not give."""
    return prediction.image.nan_to_num(0.0) if prediction.logits is None else prediction.logits


def full_batch(method, rows=2):
    """Everything is present; shown is everything, or the one subset that the method serves.

    A system that fills in whatever is missing is shown every other modality, the others in the next row.
    """
    everything = torch.ones(rows, len(method.spec.modalities), dtype=torch.bool)
    shown = everything
    if method.subsets != "any":
        shown = served(method)[:1].expand(rows, -1)
    elif only_synthesises(method):
        shown = (torch.arange(rows)[:, None] + torch.arange(everything.shape[1])) % 2 == 0
    return make_batch(size_for(method), everything, shown, method.spec)


def only_synthesises(method):
    return tuple(method.outputs) == ("image",)


@pytest.fixture
def image(method, rows):
    return make_batch(size_for(method), torch.ones_like(rows), rows).image


# ---------------------------------------------------------------------------------------------------- prediction


def test_every_subset_gives_a_finite_output_of_the_right_shape(method, image, rows):
    prediction = predict(method, image, rows)
    size = tuple(image.shape[2:])
    if "logits" in method.outputs:
        assert prediction.logits.shape == (len(rows), len(method.head.channels), *size)
        assert prediction.logits.isfinite().all()
    if "image" in method.outputs:
        assert prediction.image.shape == (len(rows), 4, *size)
        assert prediction.synthesised.shape == (len(rows), 4)
        assert torch.equal(prediction.image.flatten(2).isfinite().all(2), prediction.synthesised)
        if method.subsets == "any":
            assert (prediction.synthesised | rows).all(), "a modality is neither there nor synthesised"


def test_bfloat16_predicts_nearly_the_same(method, image, rows):
    row = rows[max(len(rows) - 2, 0) :][:1]
    exact = main_output(predict(method, image[:1], row))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = main_output(predict(method, image[:1], row)).float()
    assert rounded.isfinite().all()
    assert (rounded - exact).std() <= 0.2 * exact.std()


def test_only_what_is_asked_for_is_decoded(method, image, rows):
    everything = predict(method, image[:2], rows[:2])
    for output in method.outputs:
        part = predict(method, image[:2], rows[:2], outputs=(output,))
        given = [key for key in ("logits", "image", "class_logits") if getattr(part, key) is not None]
        assert given == [output]
        torch.testing.assert_close(getattr(part, output), getattr(everything, output), equal_nan=True)


def test_absent_voxels_never_reach_the_prediction(method, image, rows):
    absent = ~rows[..., None, None, None]
    assert_same(
        predict(method, torch.where(absent, torch.nan, image), rows),
        predict(method, torch.where(absent, 100 * torch.randn_like(image), image), rows),
    )


def test_a_subset_decodes_the_same_from_more_features(method, rows):
    pairs = [(s, t) for s, t in product(rows, SUBSETS) if not (s & ~t).any()]
    assert len(pairs) == 65 or method.subsets != "any"
    within, encoded = torch.stack([s for s, _ in pairs]), torch.stack([t for _, t in pairs])
    image = make_batch(size_for(method), torch.ones_like(within), within).image
    with torch.inference_mode():
        assert_same(
            method.decode(method.encode(image, encoded), within), method.decode(method.encode(image, within), within)
        )


def test_a_subset_decodes_the_same_from_all_features_one_window_at_a_time(method, image, rows):
    with torch.inference_mode():
        features = method.encode(image[:1], torch.ones(1, 4, dtype=torch.bool))
        for row in rows[[0, 4, 9, 12, 14]] if len(rows) == 15 else rows[:1]:
            assert_same(method.decode(features, row[None]), method.predict(image[:1], row[None]))


def test_a_batch_of_mixed_subsets_equals_its_rows(method, image, rows):
    together = predict(method, image, rows)
    for key in method.outputs:
        whole = getattr(together, key)
        # One row takes another convolution kernel than fifteen; the sums round differently.
        tolerance = 1e-4 * whole[whole.isfinite()].std().item()
        for row in (0, 2 * len(rows) // 5, len(rows) - 1):
            alone = getattr(predict(method, image[row : row + 1], rows[row : row + 1]), key)
            torch.testing.assert_close(alone[0], whole[row], atol=tolerance, rtol=1e-4, equal_nan=True)


def test_prediction_repeats_and_its_noise_follows_the_seeds(method, image, rows):
    image, available = image[:2], rows[[len(rows) // 3, -1]]
    assert_same(predict(method, image, available), predict(method, image, available))

    def sampled(*seeds):
        return predict(method, image, available, generators=[torch.Generator().manual_seed(seed) for seed in seeds])

    assert_same(sampled(1, 2), sampled(1, 2))
    first, other = sampled(1, 2), sampled(1, 3)
    for key in method.outputs:
        torch.testing.assert_close(
            getattr(first, key)[0],
            getattr(other, key)[0],
            atol=0,
            rtol=0,
            equal_nan=True,
            msg="a row's noise must be its own",
        )


def test_every_modality_matters(method, image, rows):
    everything = rows[-1:]
    shift = torch.zeros_like(image[:1])
    if method.classical:
        pytest.skip("a threshold looks at one or two modalities")
    if only_synthesises(method) and method.subsets == "any":
        everything = rows[-2:-1]  # with all four there is nothing to fill in
    before = main_output(predict(method, image[:1], everything))
    for modality in everything[0].nonzero().flatten().tolist():
        changed = shift.clone()
        changed[:, modality, 3:9, 3:9, 3:9] = 5.0
        after = main_output(predict(method, image[:1] + changed, everything))
        assert not torch.allclose(after, before, atol=1e-4)


def test_windows_need_not_be_cubes(method, rows):
    if method.patch is not None:
        pytest.skip("fixed window")
    steps = [step * -(-8 // step) for step in divisors(method)]
    size = (2 * steps[0], 3 * steps[1], 4 * steps[2])
    assert main_output(predict(method, torch.randn(1, 4, *size), rows[-1:])).shape[2:] == size


@pytest.mark.parametrize("codes", [("flair",), ("t2", "flair"), ("t1", "t2", "pd")])
def test_other_numbers_of_modalities(build, cls, codes):
    if len(codes) == 1 and cls.outputs == ("image",):
        with pytest.raises(UserError, match="nothing to synthesise"):
            build(DataSpec(codes))
        return
    method = build(DataSpec(codes))
    batch = full_batch(method)
    assert main_output(predict(method, batch.image, batch.available)).isfinite().all()
    if not method.classical:
        assert all(result["output"].loss.isfinite() for result in run_turns(method, batch).values())


def test_five_modalities_and_other_labels(build):
    method = build(FIVE)
    batch = full_batch(method)
    prediction = predict(method, batch.image, batch.available)
    if "logits" in method.outputs:
        assert prediction.logits.shape[1] == len(method.head.channels)
        assert method.head.target(batch.label, FIVE).shape[1] == len(method.head.channels)
    if not method.classical:
        assert all(result["output"].loss.isfinite() for result in run_turns(method, batch).values())


def test_channels_are_named_not_positional(build, method, image, rows):
    order = [3, 1, 0, 2]
    permuted = build(DataSpec(tuple(GLIOMA.modalities[i] for i in order)))
    weights = method.state_dict()
    # A network of one subset holds its own channels only.
    moved = {
        len(codes): [codes.index(code) for code in new]
        for codes, new in ((method.own, permuted.own), (method.spec.modalities, permuted.spec.modalities))
    }
    for pattern, axis in {"median_statistics": 1, **PER_CHANNEL.get(method.name, {})}.items():
        for key in [key for key in weights if re.fullmatch(pattern, key)]:
            weights[key] = weights[key].index_select(axis, torch.tensor(moved[weights[key].shape[axis]]))
    permuted.load_state_dict(weights)
    before, after = predict(method, image, rows), predict(permuted, image[:, order], rows[:, order])
    if before.logits is not None:
        torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    if before.image is not None:
        torch.testing.assert_close(after.image, before.image[:, order], atol=1e-4, rtol=1e-4, equal_nan=True)


def test_a_family_serves_its_subsets_and_refuses_others(case, method, image):
    if method.subsets == "any":
        pytest.skip("one network for all subsets")
    settings = case[1]
    single = build_preset(type(method), "tiny", subset="t2", **settings).eval()
    family = Family({"flair+t1c": method, "t2": single})
    asked = torch.stack([GLIOMA.available(subset) for subset in (("t2",), ("t1c", "flair"))])
    with torch.inference_mode():
        together = family.predict(image, asked)
        alone = [single.predict(image[:1], asked[:1]), method.predict(image[1:], asked[1:])]
        for row, member in enumerate(alone):
            assert_same([main_output(together)[row]], [main_output(member)[0]])
        for refusing in (family, method):
            with pytest.raises(SubsetNotTrained, match=r"has no network for t1; trained subsets: [\w+, ]*t1c\+flair"):
                refusing.predict(image[:1], GLIOMA.available(("t1",))[None])


# ------------------------------------------------------------------------------------------------------ training


def incomplete(method, fill):
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
    available = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
    if method.subsets != "any":
        own = method.spec.available(method.own)
        needed = own if isinstance(method.needs, str) else method.spec.available(method.needs)
        present, available = present | needed, own.expand_as(available)
    rows = slice(0, 1) if method.needs == "complete" else slice(None)
    return make_batch(size_for(method), present[rows], available[rows], fill=fill)


def test_what_is_not_present_never_reaches_loss_or_gradients(build, method):
    if method.classical:
        fitted = []
        for fill in (torch.nan, 9.0):
            other = build()
            logs = other.fit([incomplete(other, fill)], StepContext(other.stages[0]))
            assert logs
            assert all(value.isfinite().all() for value in logs.values())
            fitted.append(other.state_dict())
        for key, value in fitted[0].items():
            torch.testing.assert_close(fitted[1][key], value, equal_nan=True, atol=0, rtol=0)
        return
    poisoned, filled = (run_turns(method, incomplete(method, fill)) for fill in (torch.nan, 9.0))
    for turn, result in poisoned.items():
        assert result["output"].loss.isfinite()
        assert torch.equal(result["output"].loss, filled[turn]["output"].loss)
        assert result["gradients"].keys() == filled[turn]["gradients"].keys()
        for key, gradient in result["gradients"].items():
            assert gradient.isfinite().all(), key
            assert torch.equal(gradient, filled[turn]["gradients"][key]), key


def test_gradients_reach_every_parameter_that_is_not_declared_untrained(method):
    reached = {
        key
        for result in ({} if method.classical else run_turns(method, full_batch(method))).values()
        for key, gradient in result["gradients"].items()
        if gradient.abs().sum() > 0
    }
    for key, _ in method.named_parameters():
        declared = any(re.fullmatch(pattern, key) for pattern in method.info.untrained)
        assert declared or key in reached, f"{key} gets no gradient"
        assert not (declared and key in reached), f"{key} is declared untrained but gets a gradient"


def test_every_logged_loss_term_is_positive_and_teaches(method, monkeypatch):
    if method.classical:
        pytest.skip("trained by fit")
    live, detach = {}, torch.Tensor.detach

    def remember(tensor):
        result = detach(tensor)
        live[id(result)] = (tensor, result)  # keeping the result keeps its id from being used again
        return result

    monkeypatch.setattr(torch.Tensor, "detach", remember)
    batch = full_batch(method)
    parameters = list(method.parameters())
    method.train()
    for stage in method.stages:
        for turn in method.turns(stage):
            live.clear()
            output = method.training_step(batch, StepContext(stage, turn, progress=0.5, draw_available=draw_fewer))
            assert output.logs
            for term, value in output.logs.items():
                assert value > 0, term
                gradients = torch.autograd.grad(live[id(value)][0], parameters, retain_graph=True, allow_unused=True)
                assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients), term


def test_the_drawn_subset_decides_what_is_learned_from(method):
    if method.classical or method.subsets != "any":
        pytest.skip("no subset is drawn")
    present = torch.ones(1, 4, dtype=torch.bool)
    few, many = (run_turns(method, make_batch(size_for(method), present, row[None])) for row in SUBSETS[[1, 12]])
    for turn, result in few.items():
        assert result["output"].loss != many[turn]["output"].loss, turn


@pytest.mark.skipif(not HAS_BF16, reason="no bfloat16 in hardware")
def test_bfloat16_autocast_trains(method):
    if method.classical:
        pytest.skip("trained by fit")
    with torch.autocast("cpu", torch.bfloat16):
        results = run_turns(method, incomplete(method, torch.nan))
    for result in results.values():
        assert result["output"].loss.isfinite()
        assert result["output"].loss.dtype == torch.float32
        assert all(gradient.isfinite().all() for gradient in result["gradients"].values())


def test_twenty_steps_on_one_batch_lower_the_loss(method):
    if method.classical:
        pytest.skip("trained by fit")
    stage, batch = method.stages[-1], full_batch(method, rows=1)
    if only_synthesises(method):  # no noise foretells another's; and within the scale of any method
        batch = batch._replace(image=(0.25 * batch.label[:, None]).expand_as(batch.image))
    optimizers = {
        turn: torch.optim.Adam(groups, lr=method.optimizer_settings(stage, turn).lr)
        for turn, groups in method.turns(stage).items()
    }
    losses = {turn: [] for turn in optimizers}
    for _ in range(20):
        for turn, optimizer in optimizers.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BF16):
                loss = method.training_step(batch, StepContext(stage, turn)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[turn].append(loss.item())
    # What a discriminator loses the networks win, and the other way round: only their own loss must fall.
    for turn, values in losses.items():
        assert sum(values[-3:]) / 3 < 0.9 * values[0] or turn.startswith("discriminator"), turn


# ------------------------------------------------------------------------------------------- weights and identity


def test_saved_weights_predict_the_same(method, image, rows, tmp_path):
    path = tmp_path / "model.safetensors"
    method.save(path, extra={"window": [16, 16, 16]})
    again = type(method).load(path, GLIOMA)
    assert again.config == method.config
    assert_same(predict(again, image[:3], rows[:3]), predict(method, image[:3], rows[:3]))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_table_names_a_method_as_it_names_itself():
    for name in list_methods():
        assert get_method(name).name == name


def test_a_method_says_who_it_is(cls):
    info = cls.info
    assert cls.predict is Method.predict
    assert set(cls.presets) == {"paper", "tiny"}
    for field in ("title", "family", "task", "reference", "novelty", "weakness"):
        assert getattr(info, field), field
    assert 1970 < info.year < 2100
    assert info.task in ("segmentation", "synthesis", "segmentation and synthesis", "classification")
    # Papers of PMLR have no DOI: volume and pages find them.
    assert info.family == "baseline" or info.doi or info.arxiv or "PMLR" in info.reference or cls is Template
    for section in ("Parameters", "Notes"):
        assert f"{section}\n    ---" in cls.__doc__, section


def test_tiny_has_the_skeleton_of_paper(cls):
    with torch.device("meta"):
        paper, tiny = (build_preset(cls, preset) for preset in ("paper", "tiny"))
    names = [{re.sub(r"\.\d+", ".*", key) for key in method.state_dict()} for method in (paper, tiny)]
    assert names[0] == names[1]
    assert sum(parameter.numel() for parameter in tiny.parameters()) < 1_000_000
    assert [stage.name for stage in paper.stages] == [stage.name for stage in tiny.stages]


def test_stages_use_known_samplers_and_windows_the_network_accepts(cls):
    from anymri.data.subsets import SAMPLERS

    for preset in ("paper", "tiny"):
        with torch.device("meta"):
            method = build_preset(cls, preset)
        for stage in method.stages:
            assert stage.sampler in SAMPLERS
            assert all(size % step == 0 for size, step in zip(stage.patch or (), divisors(method), strict=False))
