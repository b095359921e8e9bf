"""Per-subset systems: one network per subset, and several of them behind the protocol of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from anymri.nn.fusion import spread
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.method import ConfigT, Method, MethodConfig, SubsetNotTrained, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import GLIOMA, DataSpec, Features, Prediction, UserError, Where

__all__ = ["PerSubset", "PerSubsetModels", "predict_target", "with_target"]

ConfigType = TypeVar("ConfigType", bound=MethodConfig)


class PerSubset(Method[ConfigT]):
    """A system with one network per subset; an instance serves the one of `config.subset`.

    A subclass writes `predict_subset` and `training_step`.

    Parameters
    ----------
    config : MethodConfig
        With `subset`; None = all modalities.
    spec : DataSpec

    Raises
    ------
    UserError
        If the subset is not one of the specification, or has not `source_count` sequences.
    """

    subsets: Literal["any", "per-subset"] | tuple[str, ...] = "per-subset"

    def __init__(self, config: ConfigT, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        try:
            self.subset_modalities = spec.modalities if config.subset is None else spec.parse_subset(config.subset)
        except ValueError as error:
            raise UserError(f"method.config.subset = {config.subset!r}: {error}") from None
        self._check_count()
        self.subsets = (spec.subset_name(self.subset_modalities),)

    def _check_count(self) -> None:
        given, wanted = len(self.subset_modalities), self.source_count
        if wanted is not None and given != wanted:
            raise UserError(
                f"method.config.subset = {self.spec.subset_name(self.subset_modalities)!r}: {self.name} makes one "
                f"sequence of {wanted}, not of {given}; name {wanted}"
            )

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Predict from the channels of the own subset.

        Parameters
        ----------
        sources : Tensor, shape (B, len(own), *S)
        available : Tensor of bool, shape (B, M)
        """
        raise NotImplementedError

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The subset's channels: such a network joins them from the first layer on. See `Method.encode`."""
        return {"image": self.take_own(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Predict for the own subset, deterministic. See `Method.decode`.

        Raises
        ------
        SubsetNotTrained
            If a row shows more or less.
        """
        self.require_own(available)
        return self.predict_subset(features["image"], available)

    def take_own(self, image: Tensor, available: Tensor) -> Tensor:
        """Channels of the own subset, in the order of `spec`.

        Parameters
        ----------
        image : Tensor, shape (B, M, *S)
        available : Tensor of bool, shape (B, M)
            May show more; what else is there is not looked at.

        Returns
        -------
        Tensor, shape (B, len(own), *S)
        """
        columns = [self.spec.index(code) for code in self.subset_modalities]
        return zero_absent(image[:, columns], available[:, columns])

    def require_own(self, available: Tensor) -> None:
        """Refuse rows of another subset.

        Raises
        ------
        SubsetNotTrained
            If a row shows more or less.
        """
        for name in dict.fromkeys(self.spec.subset_name(row) for row in available):
            if name not in self.subsets:
                raise SubsetNotTrained(f"{self.name} has no network for {name}; trained subsets: {self.subsets[0]}")


class PerSubsetModels(nn.Module):
    """Per-subset models: several instances of one method behind the protocol's `encode` and `decode`.

    Parameters
    ----------
    members : dict of str to Method or sequence of Method
        Subset name (``"t1c+flair"``) to the instance trained for it, or to several that make different sequences.

    Raises
    ------
    ValueError
        If there are no members, they differ in method or specification, or two have the same subset and target.
    """

    def __init__(self, members: Mapping[str, Method | Sequence[Method]]) -> None:
        super().__init__()
        given = {subset: [m] if isinstance(m, Method) else list(m) for subset, m in members.items()}
        every = [member for together in given.values() for member in together]
        if not every:
            raise ValueError("per-subset models need at least one member")
        first = every[0]
        if any(type(m) is not type(first) or m.spec != first.spec for m in every):
            raise ValueError("per-subset models must share method and data specification")
        for subset, together in given.items():
            targets = [getattr(member, "target", None) for member in together]
            if twice := [target for target in targets if targets.count(target) > 1]:
                raise ValueError(f"two models serve {subset}" + (f" to {twice[0]}" if twice[0] else ""))
        # Module names may not hold dots; "+" is allowed.
        self.members = nn.ModuleDict(
            {first.spec.subset_name(first.spec.parse_subset(s)): nn.ModuleList(m) for s, m in given.items()}
        )
        self.spec, self.head, self.info, self.config = first.spec, first.head, first.info, first.config
        self.name, self.outputs, self.intensity = first.name, first.outputs, first.intensity
        self.patch, self.divisor, self.spatial_dims = first.patch, first.divisor, first.spatial_dims
        self.subsets = tuple(self.members)
        self.facts = TrainingFacts()

    @classmethod
    def of(cls, members: Sequence[Method]) -> Self:
        """Join instances that each know their subset.

        Raises
        ------
        ValueError
            As the class itself.
        """
        by_subset: dict[str, list[Method]] = {}
        for member in members:
            by_subset.setdefault(member.subsets[0], []).append(member)
        return cls(by_subset)

    @property
    def every(self) -> list[Method]:
        """All members."""
        return [cast(Method, member) for together in self.members.values() for member in cast(nn.ModuleList, together)]

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Keep image and place; a member's encoders run in `decode`, where its subset is known."""
        return {"image": zero_absent(image, available), "where": where}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Run each row through the members trained for its subset.

        Raises
        ------
        SubsetNotTrained
            If a row's subset has no member.
        """
        names = [self.spec.subset_name(row) for row in available]
        for name in names:
            if name not in self.members:
                known = ", ".join(self.subsets)
                raise SubsetNotTrained(f"{self.name} has no network for {name}; trained subsets: {known}")
        parts: list[Prediction | None] = [None] * len(names)
        for name in dict.fromkeys(names):
            rows = [i for i, row in enumerate(names) if row == name]
            where = features["where"]
            place = None if where is None else Where(*(value[rows] for value in where))
            part_request = replace(request, noise=None if request.noise is None else request.noise.rows(rows))
            part = _merge(
                [
                    cast(Method, member).predict(features["image"][rows], available[rows], place, part_request)
                    for member in cast(nn.ModuleList, self.members[name])
                ]
            )
            for position, row in enumerate(rows):
                parts[row] = Prediction(*(None if v is None else v[position] for v in part))
        done = [part for part in parts if part is not None]
        return Prediction(
            *(
                None if getattr(done[0], key) is None else torch.stack([getattr(p, key) for p in done])
                for key in done[0]._fields
            )
        )

    predict = Method.predict


def with_target(name: str, config: ConfigType, spec: DataSpec, count: int | None = None) -> ConfigType:
    """Settings of a system with one network per sources and target, with `subset` and `target` filled in.

    Parameters
    ----------
    name : str
        Of the method, for the message.
    config : MethodConfig
        With a field `target`: None = the last modality outside `subset`. Without a `subset`, everything else is shown.
    spec : DataSpec
    count : int or None, default=None
        Without a `subset`, only so many sequences are shown, the first ones; None = all.

    Raises
    ------
    UserError
        If a modality is unknown or no target is left.
    """
    target: str | None = getattr(config, "target")  # noqa: B009
    if target is not None and target not in spec.modalities:
        raise UserError(f"method.config.target = {target!r}: not one of {', '.join(spec.modalities)}")
    try:
        given = () if config.subset is None else spec.parse_subset(config.subset)
    except ValueError as error:
        raise UserError(f"method.config.subset = {config.subset!r}: {error}") from None
    left = [code for code in spec.modalities if code not in given]
    target = target or (left[-1] if left else None)
    sources = given or tuple(code for code in spec.modalities if code != target)[:count]
    if target is None or target in sources or not sources:
        shown = "+".join(sources or spec.modalities)
        raise UserError(
            f"{name}: from {shown} there is nothing to synthesise; set method.config.subset and target apart"
        )
    return replace(config, subset=spec.subset_name(sources), target=target)  # type: ignore[call-arg]


def predict_target(made: Tensor, target: str, spec: DataSpec) -> Prediction:
    """Prediction of one synthesised sequence.

    Parameters
    ----------
    made : Tensor, shape (B, 1, *S)
    target : str
        Which one it is.
    spec : DataSpec
    """
    channel = spec.index(target)
    image = made.new_full((len(made), len(spec.modalities), *made.shape[2:]), torch.nan)
    image[:, channel] = made[:, 0]
    synthesised = torch.zeros(image.shape[:2], dtype=torch.bool, device=made.device)
    synthesised[:, channel] = True
    return Prediction(image=image, synthesised=synthesised)


def _merge(parts: Sequence[Prediction]) -> Prediction:
    """One prediction with the images of all; what else there is, is the first's."""
    made = [(part.image, part.synthesised) for part in parts if part.image is not None and part.synthesised is not None]
    if len(made) < 2:
        return parts[0]
    image = made[0][0]
    for other, synthesised in made[1:]:
        image = torch.where(spread(synthesised, image.ndim), other, image)
    return parts[0]._replace(image=image, synthesised=torch.stack([synthesised for _, synthesised in made]).any(dim=0))
