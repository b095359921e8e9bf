"""CMIM: a critic finds information that is there, both encoders learn from it, and prediction needs one sequence."""

import math

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.losses.mutual_information import info_nce
from anymri.methods import StepContext
from anymri.methods.cmim import CMIM, _Critic
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
FLAIR = GLIOMA.available(("flair",))[None]


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_preset(CMIM, "tiny", subset="flair", widths=(4, 6, 8), critic_width=8)


def step(method, present=ALL, rows=1):
    batch = make_batch((16, 16, 16), present.expand(rows, 4), FLAIR.expand(rows, 4))
    return batch, method.training_step(batch, StepContext(method.stages[0]))


def learned_information(rho):
    """What a trained critic finds in maps of that correlation."""
    torch.manual_seed(0)
    critic = _Critic(2, 16)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    noise = torch.randn(2, 120, 1, 2, 128, 1, 1)
    first, second = noise[0], rho * noise[0] + math.sqrt(1 - rho**2) * noise[1]
    for own, other in zip(first, second, strict=True):
        loss = -info_nce(critic(own, other))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return info_nce(critic(torch.randn(1, 2, 128, 1, 1), torch.randn(1, 2, 128, 1, 1))), -float(loss.detach())


def test_a_critic_learns_how_much_two_maps_tell_of_each_other():
    found = []
    for rho in (0.5, 0.9):
        unrelated, value = learned_information(rho)
        truth = -math.log(1 - rho**2)
        assert 0.4 * truth < value < truth + 0.1
        assert unrelated < 0.1
        found.append(value)
    assert found[1] > found[0] + 0.5


def test_scores_are_those_of_places_row_after_row():
    torch.manual_seed(0)
    critic = _Critic(3, 4)
    own, other = torch.randn(2, 2, 3, 5, 1, 1)
    scores = critic(own, other)
    assert scores.shape == (10, 10)
    one = critic.own(own[1:, :, 2:3]).flatten() @ critic.other(other[:1, :, 4:]).flatten() / 2
    torch.testing.assert_close(scores[5 + 2, 4], one)


def test_the_information_teaches_both_encoders_and_every_critic(tiny):
    batch, _ = step(tiny)
    tiny.zero_grad()
    own = tiny._own_features(tiny.take_own(batch.image, batch.present))[-1]
    tiny._information(own, batch, torch.Generator().manual_seed(0)).backward()
    for part in (*tiny.encoders.values(), *tiny.critics.values()):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert all(p.grad is None for p in tiny.decoder.parameters())


def test_raising_it_lowers_the_loss(tiny):
    batch, output = step(tiny)
    terms = {name: value.item() for name, value in output.logs.items()}
    assert output.loss.item() == pytest.approx(sum(terms.values()), rel=1e-6)
    own = tiny._own_features(tiny.take_own(batch.image, batch.present))[-1]
    bound = tiny._information(own, batch, torch.Generator().manual_seed(0)).item()
    assert terms["information"] == pytest.approx(-0.1 * bound, rel=1e-5)


def test_only_sequences_that_are_there_are_compared(tiny):
    present = GLIOMA.available(("t1", "flair"))[None]
    step(tiny, present)[1].loss.backward()
    trained = [code for code, critic in tiny.critics.items() if critic.own.out.weight.grad is not None]
    assert trained == ["t1"]
    assert "information" not in step(tiny, FLAIR)[1].logs


def test_what_was_only_trained_with_is_not_needed_for_a_prediction(tiny):
    image = torch.randn(1, 4, 16, 16, 16)
    with torch.inference_mode():
        before = tiny.predict(image, FLAIR).logits
        for code in ("t1", "t1c", "t2"):
            del tiny.encoders[code]
        tiny.critics = torch.nn.ModuleDict()
        assert torch.equal(tiny.predict(image, FLAIR).logits, before)
