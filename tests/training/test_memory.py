"""Memory of a training: patches and batches that do not fit are refused before the first step."""

from dataclasses import replace

import pytest
import torch

from anymri.config import TrainingSection
from anymri.errors import UserError
from anymri.methods import create
from anymri.training import memory
from anymri.training.memory import check_steps


@pytest.fixture
def unet():
    return create("unet", preset="tiny")


def stages(method, **changes):
    return [replace(stage, **changes) for stage in method.stages]


@pytest.mark.parametrize(
    ("patch", "batch"), [((512, 512, 512), 65_536), ((4096, 4096, 4096), 1), ((16, 16, 16), 65_536)]
)
def test_what_cannot_fit_is_refused_with_both_keys(unet, monkeypatch, patch, batch):
    monkeypatch.setattr(memory, "memory_at_hand", lambda training: 2.0)
    with pytest.raises(UserError, match=f"^training.batch_size = {batch}, training.patch = {patch[0]}x") as caught:
        check_steps(unet, stages(unet, patch=patch, batch_size=batch), TrainingSection())
    assert "\n" not in str(caught.value)


def test_a_measured_step_decides_and_leaves_the_network_alone(unet, monkeypatch):
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    for at_hand in (64.0, 0.5):
        monkeypatch.setattr(memory, "memory_at_hand", lambda training, at_hand=at_hand: at_hand)
        chosen = stages(unet, patch=(128, 128, 128), batch_size=2)
        if at_hand == 64:
            check_steps(unet, chosen, TrainingSection())
        else:
            with pytest.raises(UserError, match="takes about"):
                check_steps(unet, chosen, TrainingSection())
    assert unet.training
    assert all(
        torch.allclose(value, before[name], rtol=0, atol=0, equal_nan=True) for name, value in unet.state_dict().items()
    )


def test_small_steps_are_not_measured(unet, monkeypatch):
    monkeypatch.setattr(memory, "StepMemory", lambda *given: pytest.fail("measured"))
    check_steps(unet, stages(unet, patch=(32, 32, 32), batch_size=2), TrainingSection())
