"""Validation of a method that only makes images: PSNR, told by its name, and the best epoch by it."""

import numpy as np
import pytest
import torch

from anymri import methods
from anymri.data.cache import Cache
from anymri.methods import Method, MethodConfig, MethodInfo, Preset
from anymri.protocol.method import EVERYTHING
from anymri.training import train
from anymri.training.log import read_log
from anymri.types import GLIOMA, Prediction, Stage, StepOutput

LEVELS = (2.0, 0.1, 1.0)


class Constant(Method):
    """Every sequence that is not shown is one number, which changes from epoch to epoch."""

    name = "constant"
    info = MethodInfo(title="Constant", family="baseline", task="synthesis", year=2026, reference="test")
    presets = {"tiny": Preset((Stage("train", 3, 1, (12,) * 3, "all", 1, select="best"),))}
    outputs = ("image",)

    def __init__(self, config=MethodConfig(), spec=GLIOMA):
        super().__init__(config, spec)
        self.level = torch.nn.Parameter(torch.zeros(()))

    def encode(self, image, available, where=None):
        return {"image": image}

    def decode(self, features, available, request=EVERYTHING):
        made = ~available
        image = torch.where(made[..., None, None, None], self.level, torch.nan).expand_as(features["image"])
        return Prediction(image=image, synthesised=made)

    def training_step(self, batch, ctx):
        return StepOutput.of({"level": self.level.square()})

    def end_epoch(self, stage, epoch, cohort):
        self.level.fill_(LEVELS[epoch])


@pytest.fixture
def run(make_config, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "constant", f"{__name__}:Constant")
    unset = {"epochs": None, "steps_per_epoch": None, "batch_size": None, "patch": None}
    return lambda: train(make_config("constant", **unset, validate_every=1), tmp_path / "run")


def test_images_are_validated_by_psnr_in_the_brain_of_each_missing_sequence(run, cache_folder):
    first, second, third = read_log(run())[1:]
    assert {row["validation_metric"] for row in (first, second, third)} == {"PSNR"}
    assert len(first["validation"]) == 14  # with every sequence shown none is missing
    assert set(first["validation"]["t1c+flair"]) == {"t1", "t2"}
    image = np.asarray(Cache(cache_folder).entry("p3").image, np.float64)
    for row, level in zip((first, second, third), LEVELS, strict=True):
        for channel, code in ((0, "t1"), (2, "t2")):
            real = image[channel][image[channel] != 0]
            width = np.percentile(real, 99.9) - np.percentile(real, 0.1)
            expected = 10 * np.log10(width**2 / np.mean((real - level) ** 2))
            assert row["validation"]["t1c+flair"][code] == pytest.approx(expected, abs=0.01)


def test_the_best_epoch_is_that_of_the_highest_psnr(run, capsys):
    folder = run()
    assert methods.load(folder / "model.safetensors").level.item() == pytest.approx(0.1)
    rows = read_log(folder)[1:]
    values = [value for by_target in rows[1]["validation"].values() for value in by_target.values()]
    assert len(values) == 28
    said = " ".join(capsys.readouterr().err.split())
    assert f"epoch 2: validation PSNR {sum(values) / len(values):.2f}" in said
    assert "Dice" not in said
