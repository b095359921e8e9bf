"""A method under test: built once, tiny, with the batches that every check looks at."""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from anymri.methods import Method
from anymri.protocol.request import EVERYTHING, Request
from anymri.testing.batches import SUBSETS, make_batch, size_for
from anymri.types import GLIOMA, Batch, DataSpec, Prediction

__all__ = ["Candidate", "build_preset", "only_synthesises", "predict", "served"]


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
        self._built: dict[tuple[str, str], Method] = {}
        self._presets: dict[str, Method] = {}

    def build(self, spec: DataSpec = GLIOMA, subset: str | None = None) -> Method:
        """A tiny method of its own, in evaluation mode; always with the same weights.

        Parameters
        ----------
        spec : DataSpec
        subset : str or None, default=None
            Of a system with one network per subset; None = T1c and FLAIR, or the last modality.
        """
        settings = self._settings(spec, subset)
        key = (str(spec.to_dict()), str(settings.get("subset")))
        if key not in self._built:
            self._built[key] = build_preset(self.cls, "tiny", spec, **settings).eval()
        return deepcopy(self._built[key])

    def sizes(self, spec: DataSpec = GLIOMA, subset: str | None = None) -> dict[str, torch.Size]:
        """Shape of every weight of what `build` gives, without building it."""
        with torch.device("meta"):
            method = build_preset(self.cls, "tiny", spec, **self._settings(spec, subset))
        return {key: value.shape for key, value in method.state_dict().items()}

    def preset(self, name: str) -> Method:
        """The method of a preset, without memory for its weights."""
        if name not in self._presets:
            with torch.device("meta"):
                self._presets[name] = build_preset(self.cls, name)
        return self._presets[name]

    def _settings(self, spec: DataSpec, subset: str | None) -> dict[str, Any]:
        if self.cls.subsets != "per-subset":
            return self.config
        usual = "t1c+flair" if {"t1c", "flair"} <= set(spec.modalities) else spec.modalities[-1]
        return {**self.config, "subset": subset or usual}

    @cached_property
    def method(self) -> Method:
        """The tiny method for glioma. A check that trains it takes `build` instead."""
        return self.build()

    @cached_property
    def rows(self) -> Tensor:
        """`served` of the method."""
        return served(self.method)

    @cached_property
    def image(self) -> Tensor:
        """A brain of its own in every row and channel."""
        everything = torch.ones_like(self.rows)
        return make_batch(size_for(self.method), everything, self.rows, background=True).image

    @cached_property
    def prediction(self) -> Prediction:
        """Of `image` for `rows`."""
        return predict(self.method, self.image, self.rows)

    def full_batch(self, method: Method | None = None, rows: int = 2) -> Batch:
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
        return make_batch(size_for(method), everything, shown, method.spec, background=True)
