"""One contract for every method of the table: what is absent has no influence, and every part learns."""

from __future__ import annotations

import re
from itertools import product

import pytest
import torch
from conftest import SUBSETS, build_preset, make_batch, run_turns, size_for

from anymri.inference.sliding_window import has_bf16
from anymri.methods import Method, StepContext, get_method, list_methods
from anymri.methods._template import Template
from anymri.types import GLIOMA, DataSpec

#: Parameters and buffers (regular expressions) that hold modalities along an axis instead of by name.
PER_CHANNEL = {
    "threshold": {r"lesion_threshold": 0},
    "unet": {r"down\.0\.first\.conv\.weight": 1, r".*\.modulation\.weight": 1, r"image_head\..*": 0},
}

#: Where bfloat16 is only emulated, oneDNN's weight gradients of small volumes read memory nobody wrote.
HAS_BF16 = has_bf16(torch.device("cpu"))

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


def full_batch(method, rows=2):
    everything = torch.ones(rows, len(method.spec.modalities), dtype=torch.bool)
    return make_batch(size_for(method), everything, everything, method.spec)


@pytest.fixture
def image(method):
    return make_batch(size_for(method), torch.ones_like(SUBSETS), SUBSETS).image


# ---------------------------------------------------------------------------------------------------- prediction


def test_every_subset_gives_a_finite_output_of_the_right_shape(method, image):
    prediction = predict(method, image, SUBSETS)
    size = tuple(image.shape[2:])
    if "logits" in method.outputs:
        assert prediction.logits.shape == (15, len(method.head.channels), *size)
        assert prediction.logits.isfinite().all()
    if "image" in method.outputs:
        assert prediction.image.shape == (15, 4, *size)
        assert prediction.synthesised.shape == (15, 4)
        assert torch.equal(prediction.image.flatten(2).isfinite().all(2), prediction.synthesised)
        assert (prediction.synthesised | SUBSETS).all(), "a modality is neither there nor synthesised"


def test_only_what_is_asked_for_is_decoded(method, image):
    everything = predict(method, image[:2], SUBSETS[:2])
    for output in method.outputs:
        part = predict(method, image[:2], SUBSETS[:2], outputs=(output,))
        given = [key for key in ("logits", "image", "class_logits") if getattr(part, key) is not None]
        assert given == [output]
        torch.testing.assert_close(getattr(part, output), getattr(everything, output), equal_nan=True)


def test_absent_voxels_never_reach_the_prediction(method, image):
    absent = ~SUBSETS[..., None, None, None]
    assert_same(
        predict(method, torch.where(absent, torch.nan, image), SUBSETS),
        predict(method, torch.where(absent, 100 * torch.randn_like(image), image), SUBSETS),
    )


def test_a_subset_decodes_the_same_from_more_features(method):
    pairs = [(s, t) for s, t in product(SUBSETS, SUBSETS) if not (s & ~t).any()]
    assert len(pairs) == 65
    within, encoded = torch.stack([s for s, _ in pairs]), torch.stack([t for _, t in pairs])
    image = make_batch(size_for(method), torch.ones_like(within), within).image
    with torch.inference_mode():
        assert_same(
            method.decode(method.encode(image, encoded), within), method.decode(method.encode(image, within), within)
        )


def test_a_subset_decodes_the_same_from_all_features_one_window_at_a_time(method, image):
    with torch.inference_mode():
        features = method.encode(image[:1], torch.ones(1, 4, dtype=torch.bool))
        for row in SUBSETS[[0, 4, 9, 12, 14]]:
            assert_same(method.decode(features, row[None]), method.predict(image[:1], row[None]))


def test_a_batch_of_mixed_subsets_equals_its_rows(method, image):
    together = predict(method, image, SUBSETS)
    for key in method.outputs:
        whole = getattr(together, key)
        # One row takes another convolution kernel than fifteen; the sums round differently.
        tolerance = 1e-4 * whole[whole.isfinite()].std().item()
        for row in (0, 6, 14):
            alone = getattr(predict(method, image[row : row + 1], SUBSETS[row : row + 1]), key)
            torch.testing.assert_close(alone[0], whole[row], atol=tolerance, rtol=1e-4, equal_nan=True)


def test_prediction_repeats_and_its_noise_follows_the_seeds(method, image):
    image, available = image[:2], SUBSETS[[4, 14]]
    assert_same(predict(method, image, available), predict(method, image, available))

    def sampled(*seeds):
        return predict(method, image, available, generators=[torch.Generator().manual_seed(seed) for seed in seeds])

    assert_same(sampled(1, 2), sampled(1, 2))
    first, other = sampled(1, 2), sampled(1, 3)
    for key in method.outputs:
        assert torch.equal(getattr(first, key)[0], getattr(other, key)[0]), "a row's noise must be its own"


def test_every_modality_matters(method, image):
    everything = torch.ones(1, 4, dtype=torch.bool)
    shift = torch.zeros_like(image[:1])
    if method.classical:
        pytest.skip("a threshold looks at one or two modalities")
    before = predict(method, image[:1], everything).logits
    for modality in range(4):
        changed = shift.clone()
        changed[:, modality, 3:9, 3:9, 3:9] = 5.0
        assert not torch.allclose(predict(method, image[:1] + changed, everything).logits, before, atol=1e-4)


def test_windows_need_not_be_cubes(method):
    if method.patch is not None:
        pytest.skip("fixed window")
    step = method.divisor * -(-8 // method.divisor)
    size = (2 * step, 3 * step, 4 * step)
    logits = predict(method, torch.randn(1, 4, *size), SUBSETS[-1:]).logits
    assert logits.shape[2:] == size


@pytest.mark.parametrize("codes", [("flair",), ("t2", "flair"), ("t1", "t2", "pd")])
def test_other_numbers_of_modalities(build, codes):
    method = build(DataSpec(codes))
    batch = full_batch(method)
    assert predict(method, batch.image, batch.available).logits.isfinite().all()
    if not method.classical:
        assert all(result["output"].loss.isfinite() for result in run_turns(method, batch).values())


def test_five_modalities_and_other_labels(build):
    method = build(FIVE)
    batch = full_batch(method)
    prediction = predict(method, batch.image, batch.available)
    assert prediction.logits.shape[1] == len(method.head.channels)
    assert method.head.target(batch.label, FIVE).shape[1] == len(method.head.channels)
    if not method.classical:
        assert all(result["output"].loss.isfinite() for result in run_turns(method, batch).values())


def test_channels_are_named_not_positional(build, method, image):
    order = [3, 1, 0, 2]
    permuted = build(DataSpec(tuple(GLIOMA.modalities[i] for i in order)))
    weights = method.state_dict()
    for pattern, axis in {"median_statistics": 1, **PER_CHANNEL.get(method.name, {})}.items():
        for key in [key for key in weights if re.fullmatch(pattern, key)]:
            weights[key] = weights[key].index_select(axis, torch.tensor(order))
    permuted.load_state_dict(weights)
    before, after = predict(method, image, SUBSETS), predict(permuted, image[:, order], SUBSETS[:, order])
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    if before.image is not None:
        torch.testing.assert_close(after.image, before.image[:, order], atol=1e-4, rtol=1e-4, equal_nan=True)


# ------------------------------------------------------------------------------------------------------ training


def incomplete(method, fill):
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
    available = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0]]).bool()
    rows = slice(0, 1) if method.needs == "complete" else slice(None)
    return make_batch(size_for(method), present[rows], available[rows], fill=fill)


def test_what_is_not_present_never_reaches_loss_or_gradients(build, method):
    if method.classical:
        fitted = []
        for fill in (torch.nan, 9.0):
            other = build()
            logs = other.fit([incomplete(other, fill)], None)
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
            output = method.training_step(batch, StepContext(stage, turn, progress=0.5))
            assert output.logs
            for term, value in output.logs.items():
                assert value > 0, term
                gradients = torch.autograd.grad(live[id(value)][0], parameters, retain_graph=True, allow_unused=True)
                assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients), term


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


def test_twelve_steps_on_one_batch_lower_the_loss(method):
    if method.classical:
        pytest.skip("trained by fit")
    stage, batch = method.stages[-1], full_batch(method, rows=1)
    optimizers = {
        turn: torch.optim.Adam(groups, lr=method.optimizer_settings(stage, turn).lr)
        for turn, groups in method.turns(stage).items()
    }
    losses = []
    for _ in range(12):
        for turn, optimizer in optimizers.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BF16):
                loss = method.training_step(batch, StepContext(stage, turn)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0]


# ------------------------------------------------------------------------------------------- weights and identity


def test_saved_weights_predict_the_same(method, image, tmp_path):
    path = tmp_path / "model.safetensors"
    method.save(path, extra={"window": [16, 16, 16]})
    again = type(method).load(path, GLIOMA)
    assert again.config == method.config
    assert_same(predict(again, image[:3], SUBSETS[:3]), predict(method, image[:3], SUBSETS[:3]))
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
    assert info.family == "baseline" or info.doi or info.arxiv or cls is Template
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
            assert all(size % method.divisor == 0 for size in stage.patch or ())
