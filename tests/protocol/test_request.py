"""Extensions of the protocol that coming methods need, each shown by a small method: the laws of prediction."""

from __future__ import annotations

import pytest
import torch
from tensor_study import predict_tensors
from torch import nn

from anymri.protocol import Method, MethodConfig, MethodInfo, Preset, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import GLIOMA, Head, Prediction, Stage

SHAPE = (12, 11, 14)


class Dummy(Method[MethodConfig]):
    name = "dummy"
    info = MethodInfo(title="Dummy", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {"paper": Preset((Stage("train", 1, 1, None, "all"),))}
    head = Head("sigmoid", ("wt",))

    def __init__(self):
        super().__init__(MethodConfig(), GLIOMA)

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        return Prediction(logits=zero_absent(features["image"], available).sum(1, keepdim=True))


def study(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image, statistics and boxes of a brain that fills the volume."""
    image = torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(seed))
    statistics = torch.tensor([0.0, 1.0, -3.0, 3.0, -3.0, -2.0, 2.0, 3.0]).repeat(4, 1)
    return image, statistics, torch.tensor([[0, 0, 0], SHAPE]).repeat(4, 1, 1)


# ------------------------------------------------------------------------------------------------- stochastic


class Stochastic(Dummy):
    """Paints noise of the finest level, of a level of half the size and of the whole volume; the mean is 0."""

    divisor = 2  # of the coarse level

    def decode(self, features, available, request=EVERYTHING):
        shape = features["image"].shape[2:]
        logits = torch.zeros(len(available), 1, *shape)
        if request.noise is not None:
            half = [size // 2 for size in shape]
            coarse = request.noise.normal("coarse", 1, half, stride=2)
            coarse = nn.functional.interpolate(coarse, shape, mode="nearest")
            logits = request.noise.normal("fine", 1, shape) + coarse
            logits = logits + request.noise.vector("style", 1).reshape(-1, 1, 1, 1, 1)
        return Prediction(logits=logits)


def draw(sample: int | None, **options):
    subset = ("t1", "flair")
    options = {"window": (6, 6, 6), "subject_id": "a", **options}
    return predict_tensors(Stochastic().eval(), *study(), [subset], sample=sample, **options)[subset].probability


@pytest.mark.parametrize("window", [(6, 6, 6), (4, 8, 6), (10, 6, 12), (16, 4, 14)])
def test_noise_has_no_seams_between_windows(window):
    """Overlapping windows give what one window over everything gives."""
    assert torch.allclose(draw(0, window=window), draw(0, window=SHAPE), atol=1e-6)


def test_the_mean_mode_is_without_randomness():
    assert torch.equal(draw(None), torch.full((1, *SHAPE), 0.5))
    assert torch.equal(draw(None), draw(None, subject_id="b"))


def test_samples_repeat_and_differ_by_number_and_subject():
    assert torch.equal(draw(0), draw(0))
    assert not torch.allclose(draw(0), draw(1))
    assert not torch.allclose(draw(0), draw(0, subject_id="b"))


# ---------------------------------------------------------------------------------------------- iterative steps


class Iterative(Dummy):
    """Halves an error in every step, five by its own choice."""

    def decode(self, features, available, request=EVERYTHING):
        steps = 5 if request.steps is None else request.steps
        return Prediction(logits=torch.full((len(available), 1, *features["image"].shape[2:]), 0.5**steps))


@pytest.mark.parametrize(("steps", "left"), [(None, 5), (1, 1), (8, 8)])
def test_the_number_of_steps_reaches_the_method(steps, left):
    found = predict_tensors(Iterative().eval(), *study(), [("t1",)], steps=steps)[("t1",)]
    assert torch.allclose(found.probability, torch.sigmoid(torch.tensor(0.5**left)))


# ----------------------------------------------------------------------------------------- which sequence is this


class Recogniser(Dummy):
    """Tells a channel by the mean of what it shows, as a method that is given sequences without names has to."""

    outputs = ("modality_logits",)
    means = torch.tensor([-2.0, -1.0, 1.0, 2.0])

    def decode(self, features, available, request=EVERYTHING):
        image = features["image"].flatten(2)
        found = image.sum(2) / (image != 0).sum(2)  # windows may reach beyond the image
        return Prediction(modality_logits=-((found[..., None] - self.means) ** 2))


def test_a_method_says_which_sequence_a_channel_shows():
    image, statistics, boxes = study()
    order = [2, 0, 3, 1]
    image = 0.1 * image + Recogniser.means[order].reshape(4, 1, 1, 1)
    every = GLIOMA.modalities
    found = predict_tensors(Recogniser().eval(), image, statistics, boxes, [every], window=(6, 6, 6))[every]
    assert found.modality_probability.argmax(1).tolist() == order
    assert torch.allclose(found.modality_probability.sum(1), torch.ones(4))
    assert found.probability is None


# --------------------------------------------------------------------------------------------------- explanations


def test_gradients_reach_the_image_through_overlapping_windows():
    """The logit is the sum of what is shown: every shown voxel has p (1 - p), every hidden one 0."""
    image, statistics, boxes = study()
    image.requires_grad_()
    subset = ("t1", "t2")
    found = predict_tensors(Dummy().eval(), image, statistics, boxes, [subset], window=(6, 6, 6), gradients=True)[
        subset
    ]
    (gradient,) = torch.autograd.grad(found.box_probability.sum(), image)
    p = found.probability[0].detach()
    assert torch.allclose(gradient[[0, 2]], (p * (1 - p)).expand(2, *SHAPE), atol=1e-6)
    assert not gradient[[1, 3]].any()


def test_without_that_setting_nothing_is_kept_for_gradients():
    image, statistics, boxes = study()
    image.requires_grad_()
    found = predict_tensors(Dummy().eval(), image, statistics, boxes, [("t1",)])[("t1",)]
    assert not found.probability.requires_grad


# --------------------------------------------------------------------------------------------------------- config


def test_settings_of_a_class_come_from_its_type():
    class Own(MethodConfig):
        pass

    class Named(Dummy, Method[Own]):
        pass

    assert Named.Config is Own
    assert Dummy.Config is MethodConfig


def test_a_request_says_what_it_wants():
    assert EVERYTHING.wants("image")
    assert not Request(outputs=("logits",)).wants("image")
