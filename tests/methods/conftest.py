"""Small seeded batches and one tiny instance of every method, shared by the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anymri.methods import Method, StepContext, get_method, list_methods
from anymri.methods._template import Template
from anymri.methods.base import divisors
from anymri.types import GLIOMA, STATISTICS, Batch, DataSpec, Where

# Goldens are compared with the inputs of the scripts that recorded them.
sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

#: All 15 subsets as rows.
SUBSETS = torch.stack([GLIOMA.available(subset) for subset in GLIOMA.subsets()])


def size_for(method: Method, multiple: int = 2) -> tuple[int, ...]:
    """A small window the method accepts."""
    return method.patch or tuple(max(16, multiple * step) for step in divisors(method))


def make_batch(
    size: tuple[int, ...],
    present: torch.Tensor,
    available: torch.Tensor,
    spec: DataSpec = GLIOMA,
    fill: float = torch.nan,
) -> Batch:
    """Random images with a nested lesion of every label; channels that are not present hold `fill`."""
    generator = torch.Generator().manual_seed(1)
    rows, modalities = present.shape
    image = torch.randn((rows, modalities, *size), generator=generator)
    label = torch.zeros((rows, *size), dtype=torch.int64)
    for depth, value in enumerate(spec.labels.values()):
        inner = tuple(slice(n // 4 + depth, 3 * n // 4 - depth) for n in size)
        label[(slice(None), *inner)] = value
    image = image + 0.5 * label[:, None]  # something to learn
    image = torch.where(present.reshape(rows, modalities, *[1] * len(size)), image, fill)
    statistics = torch.arange(1.0, 1 + len(STATISTICS)).expand(rows, modalities, -1)
    statistics = torch.where(present[..., None], statistics, torch.nan)
    corner, shape = torch.zeros(rows, 3, dtype=torch.int64), torch.tensor([size] * rows)
    where = Where(corner, shape, torch.zeros(rows, 3, dtype=torch.bool))
    return Batch(image, label, present, available, statistics, where, tuple(f"subject{i}" for i in range(rows)))


def draw_fewer(present: torch.Tensor) -> torch.Tensor:
    """All but the first present modality of every row: a second draw that differs from showing everything."""
    return present & ((present.cumsum(dim=1) > 1) | (present.sum(dim=1, keepdim=True) == 1))


def run_turns(method: Method, batch: Batch, progress: float = 0.5) -> dict[str, dict]:
    """Loss, logs and gradients of every turn of every stage, as the training loop runs them."""
    results = {}
    method.train()
    for stage in method.stages:
        shared: dict = {}
        for turn, groups in method.turns(stage).items():
            trained = {id(parameter) for group in groups for parameter in group["params"]}
            for parameter in method.parameters():
                parameter.requires_grad_(id(parameter) in trained)
            method.zero_grad(set_to_none=True)
            torch.manual_seed(3)
            ctx = StepContext(
                stage,
                turn,
                progress=progress,
                generator=torch.Generator().manual_seed(2),
                shared=shared,
                draw_available=lambda present: batch.available,
            )
            output = method.training_step(batch, ctx)
            if output.loss is not None:
                output.loss.backward()
            gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
            results[f"{stage.name}.{turn}"] = {"output": output, "gradients": gradients}
    method.requires_grad_(True)
    return results


#: Settings that make a tiny network with a fixed window quicker still.
SMALLER: dict[str, dict] = {name: {"size": (32, 32)} for name in ("resvit", "resvit_unified")}

#: Every method of the table, settings that change what a network is made of, and the template for new methods.
CASES: dict[str, tuple[type[Method], dict]] = {
    **{name: (get_method(name), SMALLER.get(name, {})) for name in list_methods()},
    "unet-completing": (
        get_method("unet"),
        {"completion": 1.0, "availability": "modulation", "deep_supervision": True, "targets": "labels"},
    ),
    "template": (Template, {}),
}


def build_preset(cls: type[Method], preset: str, spec: DataSpec = GLIOMA, **config: object) -> Method:
    """What `anymri.methods.create` does, for a class that need not be in the table."""
    torch.manual_seed(0)
    return cls(cls.Config.build({**cls.presets[preset].config, **config, "preset": preset}), spec)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[type[Method], dict]:
    """Class and settings of the method under test."""
    return CASES[request.param]


@pytest.fixture
def cls(case: tuple[type[Method], dict]) -> type[Method]:
    """Class of the method under test."""
    return case[0]


def own_subset(spec: DataSpec) -> str:
    """The subset that a per-subset method is tested with."""
    return "t1c+flair" if {"t1c", "flair"} <= set(spec.modalities) else spec.modalities[-1]


@pytest.fixture
def build(case: tuple[type[Method], dict]) -> Callable[..., Method]:
    """Build the method of this test, tiny and always with the same weights."""

    def build(spec: DataSpec = GLIOMA) -> Method:
        own = {"subset": own_subset(spec)} if case[0].subsets == "per-subset" else {}
        return build_preset(case[0], "tiny", spec, **own, **case[1]).eval()

    return build


@pytest.fixture
def method(build: Callable[..., Method]) -> Method:
    """The tiny method of this test, in evaluation mode."""
    return build()


def served(method: Method) -> torch.Tensor:
    """All subsets the method serves, as rows; twice its own one for a system with one network per subset."""
    if method.subsets == "any":
        return SUBSETS
    return torch.stack([method.spec.available(subset.split("+")) for subset in method.subsets * 2])


@pytest.fixture
def rows(method: Method) -> torch.Tensor:
    """`served` of the method under test."""
    return served(method)
