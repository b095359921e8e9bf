"""A method under test: built once, tiny, with the batches and results that several checks look at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from anymri.methods import Method
from anymri.protocol.request import EVERYTHING, Request
from anymri.testing.batches import POISONS, SUBSETS, make_batch, poison, smallest_size
from anymri.testing.training_run import run_turns
from anymri.types import GLIOMA, Batch, DataSpec, Features, Prediction

__all__ = ["Candidate", "Given", "build_preset", "main_output", "only_synthesises", "predict", "predict_pair", "served"]

Made = TypeVar("Made")


def build_preset(cls: type[Method], preset: str, spec: DataSpec = GLIOMA, **config: object) -> Method:
    """What `anymri.methods.create` does, for a class that need not be in the table; always the same weights."""
    torch.manual_seed(0)
    return cls(cls.Config.build({**cls.presets[preset].config, **config, "preset": preset}), spec)


def served(method: Method) -> Tensor:
    """All subsets the method serves, as rows; twice its own one for a system with one network per subset."""
    if method.subsets == "any":
        return SUBSETS
    return torch.stack([method.spec.available(subset.split("+")) for subset in method.subsets * 2])


def only_synthesises(method: Method) -> bool:
    """Whether images are all that a method gives."""
    return tuple(method.outputs) == ("image",)


def predict(method: Any, image: Tensor, available: Tensor, request: Request = EVERYTHING) -> Prediction:
    """`Method.predict` without gradients."""
    with torch.inference_mode():
        return method.predict(image, available, request=request)


def main_output(prediction: Prediction) -> Tensor:
    """Logits, or class logits; of a system that only synthesises, images with 0 in the channels it does not give."""
    if prediction.logits is not None:
        return prediction.logits
    if prediction.image is None and prediction.class_logits is not None:
        return prediction.class_logits
    assert prediction.image is not None
    return prediction.image.nan_to_num(0.0)


class Given(NamedTuple):
    """What a method makes of the same subsets while the channels outside them hold one of `POISONS`.

    Attributes
    ----------
    image : Tensor, shape (B, M, *S)
    features : dict
        From `Method.encode`.
    prediction : Prediction
    """

    image: Tensor
    features: Features
    prediction: Prediction


class Candidate:
    """A method class under test, with what its checks share.

    Parameters
    ----------
    cls : type of Method
    config : dict or None
        Settings beyond those of the preset ``tiny``.
    """

    def __init__(self, cls: type[Method], config: dict[str, Any] | None = None) -> None:
        self.cls = cls
        self.config = dict(config or {})
        self._presets: dict[str, Method] = {}
        self._given: dict[str, Given] = {}
        self._made: dict[Callable[[Candidate], Any], Any] = {}
        self._full_runs: dict[tuple[int, ...], dict[str, dict]] = {}

    def once(self, make: Callable[[Candidate], Made]) -> Made:
        """What a function makes of this candidate, computed once for all checks."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def build(self, spec: DataSpec = GLIOMA, subset: str | None = None) -> Method:
        """A tiny method of its own, in evaluation mode; always with the same weights.

        Parameters
        ----------
        spec : DataSpec
        subset : str or None, default=None
            Of a system with one network per subset; None = T1c and FLAIR, or the last modality. Where it takes a
            certain number of sequences, the last of these, or further ones beside them.
        """
        return build_preset(self.cls, "tiny", spec, **self._settings(spec, subset)).eval()

    def preset(self, name: str) -> Method:
        """The method of a preset; ``paper`` without memory for its weights."""
        if name not in self._presets:
            with torch.device("meta" if name == "paper" else "cpu"):
                self._presets[name] = build_preset(self.cls, name)
        return self._presets[name]

    def _settings(self, spec: DataSpec, subset: str | None) -> dict[str, Any]:
        if self.cls.subsets != "per-subset":
            return self.config
        usual = "t1c+flair" if {"t1c", "flair"} <= set(spec.modalities) else spec.modalities[-1]
        shown = (subset or usual).split("+")
        if (count := self.cls.source_count) is not None:  # so many, of these first
            shown = [*shown[-count:], *(code for code in reversed(spec.modalities) if code not in shown)][:count]
        return {**self.config, "subset": "+".join(shown)}

    # ------------------------------------------------------------------------------------------------ prediction

    @cached_property
    def method(self) -> Method:
        """The tiny method for glioma. A check that trains or changes it takes `build` instead."""
        return self.build()

    @cached_property
    def rows(self) -> Tensor:
        """`served` of the method."""
        return served(self.method)

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """Window of the checks of prediction, as small as the method allows."""

        def finite(size: tuple[int, int, int]) -> bool:
            return bool(main_output(predict(self.method, self.images(size)[:1], self.rows[:1])).isfinite().all())

        return smallest_size(self.method, finite)

    def images(self, size: tuple[int, ...]) -> Tensor:
        """A brain of its own in every channel of every row of `rows`."""
        everything = torch.ones_like(self.rows)
        return make_batch(size, everything, self.rows, background=True).image

    @cached_property
    def image(self) -> Tensor:
        """`images` of the smallest window."""
        return self.images(self.size)

    def given(self, kind: str) -> Given:
        """What the method makes of `image` for `rows` while all other channels hold one of `POISONS`."""
        if kind not in self._given:
            image = poison(self.image, ~self.rows, kind)
            with torch.inference_mode():
                # One right after the other, so that what `encode` leaves behind in the method is found by `decode`.
                features = self.method.encode(image, self.rows)
                self._given[kind] = Given(image, features, self.method.decode(features, self.rows))
        return self._given[kind]

    # -------------------------------------------------------------------------------------------------- training

    @cached_property
    def training_size(self) -> tuple[int, int, int]:
        """Window of the checks of training, as small as the method allows."""
        if self.cls.classical:
            return self.size

        def finite(size: tuple[int, int, int]) -> bool:
            return all(bool(result["output"].loss.isfinite()) for result in self.full_run(size).values())

        return smallest_size(self.method, finite)

    def full_run(self, size: tuple[int, int, int] | None = None) -> dict[str, dict]:
        """`run_turns` on one row of `full_batch`."""
        size = size or self.training_size
        if size not in self._full_runs:
            self._full_runs[size] = run_turns(self.build(), self.full_batch(rows=1, size=size))
        return self._full_runs[size]

    def full_batch(
        self, method: Method | None = None, rows: int = 2, size: tuple[int, int, int] | None = None
    ) -> Batch:
        """Everything is present; shown is everything, or the one subset that the method serves.

        A system that fills in whatever is missing is shown every other modality, the others in the next row.
        """
        method = method or self.method
        everything = torch.ones(rows, len(method.spec.modalities), dtype=torch.bool)
        shown = everything
        if method.subsets != "any":
            shown = served(method)[:1].expand(rows, -1)
        elif only_synthesises(method):
            shown = (torch.arange(rows)[:, None] + torch.arange(everything.shape[1])) % 2 == 0
        return make_batch(size or self.training_size, everything, shown, method.spec, background=True)


def predict_pair(
    candidate: Candidate, request: Request = EVERYTHING, kind: str = POISONS[0], method: Method | None = None
) -> Prediction:
    """Two subsets, of the candidate's method or one with its weights; all other channels hold one of `POISONS`."""
    image, rows = candidate.given(kind).image, candidate.rows
    chosen = [0, len(rows) // 2]
    return predict(method or candidate.method, image[chosen], rows[chosen], request)
