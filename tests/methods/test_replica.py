"""REPLICA: its trees, its features, and what context and coarse syntheses are for."""

import numpy as np
import pytest
import torch
from conftest import build_preset, make_batch

from anymri.errors import UserError
from anymri.methods import StepContext, create
from anymri.methods.replica import Replica, ReplicaConfig, _double, _Forest, _halve
from anymri.types import GLIOMA, DataSpec

PAIR = DataSpec(("t1", "t2"))


def brains(count, make_target, size=(12, 20, 20)):
    """One-row batches of smooth ellipsoids: t1 is given, t2 is made of it."""
    batches = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.nn.functional.avg_pool3d(torch.randn(1, 1, *size, generator=generator), 3, 1, 1)[0, 0]
        grid = torch.stack(torch.meshgrid(*(torch.linspace(-1.2, 1.2, n) for n in size), indexing="ij"))
        inside = (grid**2).sum(0) < 1
        t1 = torch.where(inside, 3 * noise, 0.0)
        image = torch.stack([t1, torch.where(inside, make_target(t1, grid), 0.0)])[None]
        everything = torch.ones(1, 2).bool()
        batches.append(make_batch(size, everything, everything, PAIR)._replace(image=image))
    return batches


def trained(batches, **config):
    method = build_preset(Replica, "tiny", PAIR, subset="t1", target="t2", **config).eval()
    logs = method.fit(batches, StepContext(method.stages[0]))
    assert all(value.isfinite() for value in logs.values())
    return method


def error(method, batch):
    """Root mean square in the brain, over the standard deviation there."""
    with torch.inference_mode():
        made = method.predict(batch.image, torch.tensor([[True, False]])).image[0, 1]
    real = batch.image[0, 1]
    inside = real != 0
    return float((made - real)[inside].pow(2).mean().sqrt() / real[inside].std())


# ------------------------------------------------------------------------------------------------------------- parts


def test_trees_in_buffers_decide_as_those_of_scikit_learn():
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(0)
    x = random.standard_normal((400, 6)).astype(np.float32)
    x[:, 5] = random.integers(0, 3, 400)
    grown = RandomForestRegressor(7, min_samples_leaf=3, random_state=0).fit(x, x[:, 0] * x[:, 1] + x[:, 5])
    forest = _Forest()
    forest.take([tree.tree_ for tree in grown.estimators_])
    np.testing.assert_allclose(forest(torch.from_numpy(x)).numpy(), grown.predict(x), atol=1e-5)
    x[:, 5] = random.choice([0.5, 1.5], 400)  # halfway between the values of training: the thresholds themselves
    np.testing.assert_allclose(forest(torch.from_numpy(x)).numpy(), grown.predict(x), atol=1e-5)
    assert forest(torch.zeros(0, 6)).shape == (0,)


@pytest.mark.parametrize("shape", [(8, 9, 10), (7, 6, 5)])
def test_doubling_puts_coarse_voxels_where_halving_took_them(shape):
    ramp = torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")).sum(0)
    again = _double(ramp[::2, ::2, ::2], shape)
    even = tuple(slice(0, n if n % 2 else n - 1) for n in shape)  # past the last coarse voxel there is nothing to join
    torch.testing.assert_close(again[even], ramp[even])


def test_halving_smooths_before_it_takes_every_second_voxel():
    ramp = torch.arange(13.0)[:, None, None].expand(13, 13, 13) * torch.ones(2, 1, 1, 1)
    halved = _halve(ramp)
    assert halved.shape == (2, 7, 7, 7)
    torch.testing.assert_close(halved[0, 2:5, 3, 3], torch.tensor([4.0, 6.0, 8.0]))
    impulse = torch.zeros(1, 13, 13, 13)
    impulse[0, 5, 6, 6] = 1.0
    column = _halve(impulse)[0, :, 3, 3]
    assert column[2] == column[3] > 0, "a voxel between two counts for both"


@pytest.mark.parametrize(("subset", "sources"), [("t1", 1), ("t1+t1c+t2", 3)])
def test_features_are_patches_the_coarser_patch_and_context(subset, sources):
    method = Replica(ReplicaConfig(subset=subset, target="flair"))
    subject = torch.randn(sources, 12, 12, 12)
    context = 8 * 4 * sources
    for scale, at in enumerate(method._at_scales(subject)):
        voxels = at.foreground.nonzero()[:5]
        features = method.features(at, torch.zeros(6, 6, 6), voxels, scale)
        assert features.shape == (5, 27 * sources + (27 if scale < 2 else 0) + context)


def test_context_is_told_from_the_centre_of_the_head():
    """Turning a head about its centre by a right angle turns the context with it."""
    method = Replica(ReplicaConfig(subset="t1", target="t2", radii=(2, 3), cubes=(1, 3)), PAIR)
    subject = torch.where(torch.rand(1, 5, 11, 11, generator=torch.Generator().manual_seed(0)) > 0, 1.0, 0.0)
    subject[:, :, 5:] *= torch.linspace(1, 2, 11)
    turned = subject.rot90(1, (2, 3))
    for voxel in ([2, 1, 5], [2, 2, 3]):
        place = torch.zeros(5, 11, 11, dtype=torch.bool)
        place[tuple(voxel)] = True
        there = place.rot90(1, (1, 2)).nonzero()
        first = method.features(method._at_scales(subject)[0], None, torch.tensor([voxel]), 0)[:, 54:]
        second = method.features(method._at_scales(turned)[0], None, there, 0)[:, 54:]
        torch.testing.assert_close(second, first)


# ------------------------------------------------------------------------------------------------------------ claims


def test_the_same_sequence_comes_back():
    train, test = (brains(4, lambda t1, grid: t1)[part] for part in (slice(0, 3), slice(3, 4)))
    method = trained(train, samples=2000, min_leaf=2)
    assert error(method, test[0]) < 0.15


def test_trees_compare_in_32_bits_whatever_the_arithmetic_around_them():
    batches = brains(2, lambda t1, grid: -t1)
    method, available = trained(batches[:1]), torch.tensor([[True, False]])
    with torch.inference_mode():
        exact = method.predict(batches[1].image, available).image
        with torch.autocast("cpu", torch.bfloat16):
            again = method.predict(batches[1].image, available).image
    assert torch.equal(again[:, 1], exact[:, 1])


def test_nothing_is_made_outside_the_range_of_training():
    batches = brains(2, lambda t1, grid: t1)
    method = trained(batches[:1])
    brighter = batches[1]._replace(image=10 * batches[1].image)
    made = method.predict(brighter.image, torch.tensor([[True, False]])).image[0, 1]
    assert made.min() >= min(0.0, batches[0].image[0, 1].min())
    assert made.max() <= batches[0].image[0, 1].max()


def test_context_tells_equal_patches_apart():
    """The target is high in the front half of a head in which every patch is the same but for noise."""
    batches = brains(4, lambda t1, grid: 0.2 * t1 + torch.where(grid[1] > 0, 1.0, -1.0))
    for batch in batches:  # front and back look different only far away
        batch.image[0, 0, :, 16:] += torch.where(batch.image[0, 0, :, 16:] != 0, 3.0, 0.0)
    options = {"radii": (2, 6), "cubes": (1, 3)}
    with_context, without = (trained(batches[:3], directions=n, **options) for n in (8, 0))
    assert error(with_context, batches[3]) < 0.8 * error(without, batches[3])


def test_finer_forests_learn_from_syntheses_of_forests_that_have_not_seen_the_subject():
    method = build_preset(Replica, "tiny", PAIR, subset="t1", target="t2", scales=2, folds=3)
    grown = []

    def watch(samples, seed):
        grown.append({float(y.sum()) for _, y in samples})
        return grow(samples, seed)

    grow, method._grow = method._grow, watch
    method.fit(brains(3, lambda t1, grid: t1), StepContext(method.stages[0]))
    coarse, *folds, fine = grown
    assert len(coarse) == len(fine) == 3
    left_out = [coarse - fold for fold in folds]
    assert [len(out) for out in left_out] == [1, 1, 1]
    assert set.union(*left_out) == coarse


def test_samples_that_do_not_fit_into_the_memory_are_refused_before_they_are_drawn(monkeypatch):
    method = build_preset(Replica, "tiny", PAIR, subset="t1", target="t2", scales=2, folds=3)
    context = StepContext(method.stages[0])
    monkeypatch.setattr(method, "_draw", lambda *_: pytest.fail("samples were drawn"))
    monkeypatch.setattr("anymri.methods.replica.free_bytes", lambda: 2**20)
    with pytest.raises(UserError, match=r"samples take about 0\.0 GiB of memory.*lower samples \(4,000\) or atlases"):
        method.fit(brains(3, lambda t1, grid: t1), context)


def test_what_cannot_be_synthesised_is_refused_in_one_line():
    every = "+".join(GLIOMA.modalities)
    for config in ({"subset": every}, {"subset": "t1+t2", "target": "t2"}):
        with pytest.raises(UserError, match=r"replica: from .* there is nothing to synthesise"):
            create("replica", preset="tiny", **config)
    with pytest.raises(UserError, match="'dwi'"):
        create("replica", preset="tiny", subset="t1", target="dwi")
    with pytest.raises(UserError, match="odd"):
        create("replica", preset="tiny", radii=(2,), cubes=(2,))
    method = create("replica", preset="tiny")
    assert (method.subset_modalities, method.target) == (("t1", "t1c", "t2"), "flair")
