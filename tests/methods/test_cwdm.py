"""cWDM: the authors' numbers, a diffusion that forgets and finds the image, and samplers of any number of steps."""

import numpy as np
import pytest
import record_cwdm as recording
import torch
from conftest import build_preset, make_batch
from named_numbers import numbers
from parity import Golden, parameters

from anymri.methods import StepContext, cwdm
from anymri.methods.authors._wavelet_unet import THEIR_BANDS
from anymri.methods.cwdm import CWDM, CWDMConfig, denoising_steps
from anymri.nn.wavelet import from_bands, to_bands
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.types import GLIOMA

SMALL = {"widths": (8, 8), "groups": 4, "steps": 3}
EVERYTHING = torch.ones(1, 4).bool()


@pytest.fixture(scope="module")
def golden():
    return Golden("cwdm")


@pytest.fixture
def network():
    return build_preset(CWDM, "tiny", **SMALL, target="flair").eval()


def imported(golden, target):
    return CWDM.import_state_dict(golden.filled("network"), f"official:{target}")


def image():
    """The recorded images as (1, 4, z, y, x)."""
    return torch.cat([recording.images()[code] for code in GLIOMA.modalities], dim=1).transpose(2, 4)


def ours(bands):
    """Bands (1, 8, x, y, z) in our order, (1, 8, z, y, x)."""
    return bands[:, THEIR_BANDS].transpose(2, 4)


class Recorded(Noise):
    """The numbers that were recorded with."""

    def normal(self, name, channels, shape, stride=1):
        assert stride == 2
        return ours(recording.bands_of_noise(name))


# -------------------------------------------------------------------------------------------------- the authors' code


def test_the_network_has_the_authors_size(golden):
    with torch.device("meta"):
        assert parameters(CWDM(CWDMConfig())) == golden.parameters["published"] == 81_511_048


@pytest.mark.parametrize("target", recording.TARGETS)
def test_samples_are_the_authors(golden, target):
    method, shown = imported(golden, target), ~GLIOMA.available([target])[None]
    request = Request(noise=Recorded([0]), steps=len(recording.TIMES))
    assert [step.time for step in denoising_steps(4)] == list(reversed(recording.TIMES))
    with torch.inference_mode():
        made = method.predict(image(), shown, request=request).image[:, GLIOMA.index(target), None].transpose(2, 4)
        mean = method.predict(image(), shown, request=Request(steps=1)).image[:, GLIOMA.index(target), None]
    assert golden.difference(f"{target}.sampled", made) <= 1e-4
    assert golden.difference(f"{target}.sampled", mean.transpose(2, 4)) > 1e-2


@pytest.mark.parametrize("target", recording.TARGETS)
def test_one_step_of_the_thousand_is_the_authors(golden, target):
    method, step = imported(golden, target), denoising_steps(1000)[999 - recording.TIME]
    state, noise = (ours(recording.bands_of_noise(name)) for name in ("start", f"step{recording.TIME}"))
    sources = method.take_own(image(), ~GLIOMA.available([target])[None])
    assert step.time == recording.TIME
    with torch.inference_mode():
        clean = method._denoise(state, to_bands(sources), torch.tensor([step.time]))
    clean = to_bands(from_bands(clean[:, None]).clamp(0, 1))[:, 0]
    after = step.clean * clean + step.noisy * state + step.deviation * noise
    assert golden.difference(f"{target}.step", after.transpose(2, 4)[:, THEIR_BANDS]) <= 1e-4


@pytest.mark.parametrize("target", recording.TARGETS)
def test_the_loss_is_the_authors(golden, monkeypatch, target):
    method = imported(golden, target)
    drawn = (torch.tensor([recording.TIME]), recording.noise().transpose(2, 4))
    monkeypatch.setattr(cwdm, "draw", lambda *_: drawn)
    batch = make_batch((2, 2, 2), EVERYTHING, EVERYTHING)._replace(image=image())
    with torch.inference_mode():
        logs = method.training_step(batch, StepContext(method.stages[0])).logs
    assert float(logs["mse"]) == pytest.approx(golden.losses()[f"{target}.mse"], rel=1e-4)


# ------------------------------------------------------------------------------------------------------ the diffusion


def test_the_first_amount_of_noise_leaves_the_image_and_the_last_nothing():
    """Closed form: the shares of image and noise that all steps together keep."""
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    assert kept[0] == pytest.approx(0.9999)
    assert kept[-1] < 5e-5
    last, first = denoising_steps(1000)[0], denoising_steps(1000)[-1]
    assert (last.time, first.time) == (999, 0)
    assert (first.clean, first.noisy, first.deviation) == pytest.approx((1, 0, 0))
    assert last.deviation == pytest.approx(0.02**0.5)
    assert last.clean == pytest.approx(0.02 * kept[-2] ** 0.5 / (1 - kept[-1]))


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_any_number_of_steps_ends_at_the_image(count):
    steps = denoising_steps(count)
    assert len(steps) == count
    assert steps[0].time == 999
    assert (steps[-1].clean, steps[-1].noisy, steps[-1].deviation) == pytest.approx((1, 0, 0))
    assert all(step.deviation > 0 for step in steps[:-1])


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("noise", [None, Noise([0])])
def test_a_network_that_knows_the_image_samples_it(network, steps, noise):
    truth = torch.rand(1, 4, 8, 8, 12)
    network._denoise = lambda *_: to_bands(truth[:, 3:])[:, 0]
    made = network.predict(truth, torch.tensor([[1, 1, 1, 0]]).bool(), request=Request(noise=noise, steps=steps)).image
    torch.testing.assert_close(made[:, 3], truth[:, 3], atol=1e-5, rtol=0)
    assert made[:, :3].isnan().all()


def test_noise_belongs_to_its_place_in_the_brain(network):
    """Two windows that overlap see the same noise where they do."""
    seen = []
    network._denoise = lambda state, *_: seen.append(state) or torch.zeros_like(state)
    shown = torch.tensor([[1, 1, 1, 0]]).bool()
    for origin in (0, 4):
        noise = Noise([5], torch.tensor([[0, 0, origin]]))
        network.predict(torch.rand(1, 4, 8, 8, 12), shown, request=Request(noise=noise, steps=2))
    assert torch.equal(seen[0][..., 2:], seen[2][..., :-2])
    assert not torch.equal(seen[0], seen[2])


def test_conditions_carry_no_noise_and_the_target_does(network, monkeypatch):
    seen = []
    network._denoise = lambda *given: seen.append(given) or network.network(*given)
    monkeypatch.setattr(cwdm, "draw", lambda *_: (torch.tensor([499]), numbers("noise", (1, 1, 8, 8, 12)) * 27.7))
    batch = make_batch((8, 8, 12), EVERYTHING, EVERYTHING)
    network.training_step(batch, StepContext(network.stages[0]))
    state, conditions, _ = seen[0]
    torch.testing.assert_close(from_bands(conditions), batch.image[:, :3], atol=1e-5, rtol=1e-5)
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[499]
    clean = to_bands(batch.image[:, 3:])[:, 0]
    rest = (state - kept**0.5 * clean) / (1 - kept) ** 0.5
    assert float(rest.std()) == pytest.approx(1, abs=0.1)
    assert float(rest[:, 0].std()) == pytest.approx(1, abs=0.25), "noise of the low band is not divided"
