"""WFM: the authors' numbers, a flow that one step follows, and any subset as an extension of ours."""

import math
from dataclasses import replace

import pytest
import record_wfm as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.methods import StepContext, SubsetNotTrained, wfm
from anymri.methods.wfm import WFM, WFMConfig
from anymri.nn.wavelet import from_bands, to_bands
from anymri.protocol.request import Request
from anymri.types import GLIOMA

ALL_BUT_ONE = torch.ones(4, 4).bool() & ~torch.eye(4).bool()
SMALL = {"widths": (8, 8), "groups": 4}


@pytest.fixture(scope="module")
def golden():
    return Golden("wfm")


@pytest.fixture(scope="module")
def imported(golden):
    return WFM.import_state_dict(golden.filled("network"))


@pytest.fixture
def network():
    return build_preset(WFM, "tiny", **SMALL).eval()


def image():
    """The recorded images as (1, 4, z, y, x)."""
    return torch.cat([recording.images()[code] for code in GLIOMA.modalities], dim=1).transpose(2, 4)


# -------------------------------------------------------------------------------------------------- the authors' code


def test_the_network_has_the_authors_size(golden):
    with torch.device("meta"):
        assert parameters(WFM(WFMConfig())) == golden.parameters["published"] == 81_512_072


@pytest.mark.parametrize(
    ("target", "sampler", "steps"),
    [*((target, "end", 1) for target in GLIOMA.modalities), ("t1c", "euler", 3), ("t2", "heun", 2)],
)
def test_samples_are_the_authors(golden, imported, target, sampler, steps):
    solver = "heun" if sampler == "heun" else "euler"
    imported.config = replace(imported.config, single_step_at_end=True, solver=solver)
    with torch.inference_mode():
        made = imported.predict(image(), ~GLIOMA.available([target])[None], request=Request(steps=steps)).image
    made = made[:, GLIOMA.index(target), None].transpose(2, 4)
    assert golden.difference(f"{target}.{sampler}", made) <= 1e-4
    assert golden.difference(f"{target}.{'euler' if steps == 1 else 'end'}", made) > 1e-3


@pytest.mark.parametrize("target", GLIOMA.modalities)
def test_the_loss_is_the_authors(golden, imported, monkeypatch, target):
    number = GLIOMA.index(target)
    drawn = (torch.tensor([number]), torch.tensor([recording.TIME / 1000]), recording.noise().transpose(2, 4))
    monkeypatch.setattr(wfm, "draw", lambda *_: drawn)
    shown = ~GLIOMA.available([target])[None]
    batch = make_batch((2, 2, 2), torch.ones(1, 4).bool(), shown)._replace(image=image())
    with torch.inference_mode():
        logs = imported.training_step(batch, StepContext(imported.stages[0])).logs
    assert float(logs["velocity"]) == pytest.approx(golden.losses()[f"{target}.velocity"], rel=1e-4)


# --------------------------------------------------------------------------------------------------------- the flow


class Straight(torch.nn.Module):
    """Knows the way: the velocity to a given end."""

    def __init__(self, velocity):
        super().__init__()
        self.velocity, self.times = velocity, []

    def forward(self, state, conditions, time, target):
        self.times.append(time.tolist())
        return self.velocity[target]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_known_velocity_leads_to_the_target_in_any_number_of_steps(network, steps):
    truth = torch.rand(1, 4, 8, 8, 12)
    bands = to_bands(truth)[0]
    ends = torch.stack([bands[t] - (bands.sum(0) - bands[t]) / 3 for t in range(4)])
    network.network = Straight(ends)
    made = network.predict(truth.expand(4, -1, -1, -1, -1), ALL_BUT_ONE, request=Request(steps=steps)).image
    for target in range(4):
        torch.testing.assert_close(made[target, target], truth[0, target], atol=1e-5, rtol=0)
        assert made[target, ALL_BUT_ONE[target]].isnan().all()
    assert len(network.network.times) == steps


@pytest.mark.parametrize(("at_end", "time"), [(False, 0.0), (True, 1000.0)])
def test_a_single_step_tells_the_network_where_the_start_is_unless_as_released(at_end, time):
    network = build_preset(WFM, "tiny", **SMALL, single_step_at_end=at_end).eval()
    network.network = Straight(torch.zeros(4, 8, 4, 4, 6))
    network.predict(torch.rand(1, 4, 8, 8, 12), ALL_BUT_ONE[:1])
    assert network.network.times == [[time]]


def test_the_state_on_the_way_is_between_start_and_target_with_noise(network, monkeypatch):
    time, seen = 0.36, []
    drawn = (torch.tensor([3]), torch.tensor([time]), torch.randn(1, 1, 8, 8, 12))
    monkeypatch.setattr(wfm, "draw", lambda *_: drawn)
    forward = network.network.forward

    def watch(state, *others):
        seen.append((state, *others))
        return forward(state, *others)

    network.network.forward = watch
    batch = make_batch((8, 8, 12), torch.ones(1, 4).bool(), torch.tensor([[1, 0, 1, 0]]).bool())
    loss = network.training_step(batch, StepContext(network.stages[0])).loss
    state, conditions, told, _ = seen[0]
    way = 0.64 * (batch.image[:, 0] + batch.image[:, 2]) / 2 + time * batch.image[:, 3]
    expected = way + 0.5 * math.sqrt(0.36 * 0.64 + 1e-8) * drawn[2][:, 0]
    torch.testing.assert_close(from_bands(state[:, None])[:, 0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(from_bands(conditions)[:, [0, 2]], batch.image[:, [0, 2]], atol=1e-5, rtol=1e-5)
    assert conditions[:, 1].abs().max() == 0
    assert told.tolist() == [360.0]
    assert loss > 0


def test_another_target_is_another_image(network):
    shown = torch.tensor([[1, 0, 0, 0]]).bool()
    made = network.predict(torch.rand(1, 4, 8, 8, 12), shown).image[0]
    assert (made[1] - made[2]).abs().max() > 1e-3


def test_one_missing_sequence_is_all_that_the_published_settings_serve():
    published = build_preset(WFM, "tiny", **SMALL, any_subset=False).eval()
    assert published.needs == "complete"
    assert published.subsets == ("t1c+t2+flair", "t1+t2+flair", "t1+t1c+flair", "t1+t1c+t2")
    with pytest.raises(SubsetNotTrained, match="wfm has no network for t1; trained subsets: t1c"):
        published.predict(torch.rand(1, 4, 8, 8, 12), torch.tensor([[1, 0, 0, 0]]).bool())


def test_targets_are_drawn_among_what_is_hidden_and_times_everywhere():
    hidden = torch.tensor([[0, 1, 0, 1]] * 400).bool()
    targets, times, noise = wfm.draw(hidden, torch.zeros(400, 4, 2, 2, 2), torch.Generator().manual_seed(0))
    assert set(targets.tolist()) == {1, 3}
    assert 0 <= times.min() < 0.02 < 0.98 < times.max() < 1
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
