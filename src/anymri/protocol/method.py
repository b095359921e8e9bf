"""Method: the protocol every published system follows; encode once, decode for any subset.

A method is one flat file with one `Method` subclass. `PerSubsetModels` serves the systems that train one network per
subset. Nothing here touches data files but `Method.save` and `Method.load`, which write and read weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from anymri.protocol.authors_checkpoint import choose_source, find_table
from anymri.protocol.config import ConfigT, MethodConfig, Preset
from anymri.protocol.context import StepContext
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.finite import find_non_finite
from anymri.protocol.info import MethodInfo
from anymri.protocol.request import EVERYTHING, Request
from anymri.protocol.size import check_size
from anymri.protocol.weights_file import Header, check_weights, fill_weights, read_header, write_weights
from anymri.types import (
    GLIOMA,
    STATISTICS,
    Batch,
    Cohort,
    DataSpec,
    Features,
    Head,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
    Where,
)

__all__ = [
    "Method", "MethodConfig", "MethodInfo", "Preset", "StepContext", "SubsetNotTrained", "divisors", "zero_absent",
]  # fmt: skip


class SubsetNotTrained(UserError):
    """The requested subset has no network: the system trains one per subset."""


def zero_absent(image: Tensor, available: Tensor) -> Tensor:
    """Set the voxels of modalities that are not shown to 0, whatever they hold (NaN included).

    Parameters
    ----------
    image : Tensor, shape (B, M, *S)
    available : Tensor of bool, shape (B, M)
    """
    return torch.where(available.reshape(*available.shape, *([1] * (image.ndim - 2))), image, 0.0)


def divisors(method: Any) -> tuple[int, int, int]:
    """What a window must be a multiple of along (D, H, W): 1 along D for a network that works within slices."""
    return (1 if method.spatial_dims == 2 else method.divisor, method.divisor, method.divisor)


class Method(nn.Module, Generic[ConfigT]):
    """One published way to cope with missing modalities.

    A subclass names its settings, ``class UNet(Method[UNetConfig])``, sets the class attributes, builds its network in
    ``__init__`` and writes `encode`, `decode` and `training_step` (or `fit` for classical systems). `predict` is
    ``decode(encode(...))`` and is not overridden.

    Parameters
    ----------
    config : MethodConfig
        Instance of the subclass's settings.
    spec : DataSpec
        Modalities, labels and regions; defines channel order.

    Notes
    -----
    The law every method keeps, for all S within T: ``decode(encode(x, T), S) == decode(encode(x, S), S)``.
    """

    name: ClassVar[str]
    #: Settings of the class, from ``Method[...]``.
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    info: ClassVar[MethodInfo]
    presets: ClassVar[dict[str, Preset]]
    head: Head | None = None
    needs: Literal["complete", "any"] | tuple[str, ...] = "any"
    outputs: tuple[str, ...] = ("logits",)
    #: What training reads beyond images and label maps; what is not named is withheld. ``"unlabelled"``: subjects
    #: without a label map, which are left out otherwise, with the reason. ``"site"``, ``"class_label"``, ``"tables"``
    #: (vectors and graphs): see `Batch`.
    uses: tuple[Literal["unlabelled", "site", "class_label", "tables"], ...] = ()
    #: 2 for a network that works within axial slices. It takes windows of slices (D, H, W) like any other; `divisor`
    #: then concerns H and W alone.
    spatial_dims: int = 3
    #: Window of prediction (D, H, W); None = any size up to the whole volume in one window.
    patch: tuple[int, int, int] | None = None
    divisor: int = 1
    #: ``"any"``; on a class ``"per-subset"`` for systems with one network each; else the subsets this instance serves.
    subsets: Literal["any", "per-subset"] | tuple[str, ...] = "any"
    #: How many sequences a network of a per-subset system takes; None = any number.
    source_count: ClassVar[int | None] = None
    intensity: Intensity = Intensity()
    #: True for systems trained by `fit` instead of gradient steps.
    classical: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, MethodConfig):
                    cls.Config = argument

    def __init__(self, config: ConfigT, spec: DataSpec = GLIOMA) -> None:
        super().__init__()
        self.config: ConfigT = config
        self.spec = spec
        self.stages = self.presets[config.preset].stages
        #: Facts that a weights file holds of the training; empty for fresh weights.
        self.facts = TrainingFacts()
        #: Modalities the network takes, in the order of `spec`; fewer in `anymri.protocol.per_subset.PerSubset`.
        self.subset_modalities = spec.modalities
        # Median statistics of the training set, to bring synthesised images back to z-scores (set by the loop).
        median = torch.full((1, len(spec.modalities), len(STATISTICS)), torch.nan)
        self.register_buffer("median_statistics", median)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Compute everything that does not depend on which *other* modalities are there.

        Parameters
        ----------
        image : Tensor, shape (B, M, *S)
            Intensities on the method's scale; channels not available may hold NaN.
        available : Tensor of bool, shape (B, M)
        where : Where or None

        Returns
        -------
        dict of Tensor or list of Tensor
            Batch axis first. An encoder runs on all rows if one row needs it and not at all if none does.
        """
        raise NotImplementedError

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Predict for a subset of the encoded modalities.

        Parameters
        ----------
        features : dict
            From `encode`, with at least the modalities of `available`.
        available : Tensor of bool, shape (B, M)
        request : Request
            What to compute, with which noise and in how many steps.
        """
        raise NotImplementedError

    def predict(
        self, image: Tensor, available: Tensor, where: Where | None = None, request: Request = EVERYTHING
    ) -> Prediction:
        """``decode(encode(image, available, where), available)``."""
        return self.decode(self.encode(image, available, where), available, request)

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Loss of one turn on one batch; every term logged by its paper's name."""
        raise NotImplementedError

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """Optimiser parameter groups of each turn, in order.

        Parameters in no turn are frozen. A submodule that has parameters, none of them in a turn, is in evaluation mode
        during the stage: a teacher's running statistics stay and its dropout rests.
        """
        return {"main": [{"params": list(self.parameters())}]}

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Optimiser, schedule and clipping of a turn."""
        return OptimizerSettings()

    def start_stage(self, stage: Stage, cohort: Cohort) -> None:
        """Prepare a stage; does nothing unless overridden.

        Called once, before `turns` and the stage's optimisers, in evaluation mode and without gradients. A run that
        goes on within the stage does not call it again: what it computes must be in parameters or in buffers (of any
        size), which checkpoints hold. Random numbers are seeded, so that a stage begun anew gets the same. Classical
        systems have `fit` alone.
        """

    def after_step(self, stage: Stage, turn: str, ctx: StepContext) -> None:
        """Act on new weights, e.g. follow them with a teacher or clip them; does nothing unless overridden.

        Called after every optimiser step of a turn, without gradients, before the next turn and before the moving
        average of `Stage.ema` takes the weights in; not where the turn was skipped. `ctx` is that of the step's last
        micro-batch.
        """

    def end_epoch(self, stage: Stage, epoch: int, cohort: Cohort) -> None:
        """Move a curriculum on; does nothing unless overridden.

        Called after the last step of each epoch (counted from 0, as `StepContext.epoch`), in training mode and without
        gradients, before validation and checkpoint. What later epochs need of it must be in parameters or in buffers,
        whose sizes stay.
        """

    def fit(self, subjects: Iterable[Batch], ctx: StepContext) -> dict[str, Tensor]:
        """Train a classical system on whole volumes (one-subject batches); returns what to log."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- weights

    def _repr_html_(self) -> str:
        from anymri.protocol.method_html import method_html

        return method_html(self)

    def save(self, path: Path | str, facts: TrainingFacts | None = None) -> None:
        """Write weights, name, config and specification as one safetensors file.

        Parameters
        ----------
        path : path-like
        facts : TrainingFacts or None, default=None
            What is stored beside them; None = nothing.
        """
        header = Header(self.name, asdict(self.config), self.spec.to_dict(), facts or TrainingFacts())
        write_weights(Path(path), header, self.state_dict())

    @classmethod
    def load(cls, path: Path | str, spec: DataSpec | None = None) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path-like
        spec : DataSpec or None
            If given, the file must have the same modalities in the same order.

        Raises
        ------
        UserError
            If the file is not such a file, was changed, is another method's, or has other modalities.
        """
        header = read_header(path)
        if header.name != cls.name:
            raise UserError(f"{path}: holds weights of {header.name!r}, not {cls.name!r}; load it under that name")
        check_weights(path)
        stored = DataSpec(**header.spec)
        if spec is not None and stored.modalities != spec.modalities:
            raise UserError(
                f"{path}: trained on {', '.join(stored.modalities)}, asked for {', '.join(spec.modalities)}; "
                "use the same modalities in the same order"
            )
        config = cls.Config.build(header.config)
        check_size(cls, config, stored, path)
        method = cls(cast("ConfigT", config), stored)
        method.facts = header.facts
        fill_weights(method, path, cls.name)
        return method.eval()

    @classmethod
    def import_state_dict(cls, state_dict: Mapping[str, Any], source: str | None = None) -> Self:
        """Build the method from weights in the naming of its authors' code.

        Parameters
        ----------
        state_dict : mapping of str to Tensor, or of str to such mappings
            As stored by the authors' code, see `SOURCES` of the method's table in `anymri.methods.authors`; the prefix
            ``module.`` of parallel training is taken off.
        source : str or None, default=None
            Which weights these are; None = what the table lists first.

        Returns
        -------
        Method
            In evaluation mode, for the four glioma sequences.

        Raises
        ------
        UserError
            If the method has no table, the source is unknown or the weights do not fit.
        """
        table = find_table(cls.__module__.rpartition(".")[0], cls.name)
        source, spelling = choose_source(table.SOURCES, source, cls.name)
        theirs = {key.removeprefix("module."): value for key, value in state_dict.items()}
        try:
            config, weights = table.translate(theirs, source)
            method = cls(cast("ConfigT", cls.Config.build(config)), GLIOMA)
            fresh = re.compile(rf"median_statistics|{getattr(table, 'FRESH', '')}")
            kept = {key: value for key, value in method.state_dict().items() if fresh.fullmatch(key)}
            method.load_state_dict(kept | weights)
            if wrong := find_non_finite(method.state_dict(), kept):
                raise ValueError(f"NaN or infinite values in {len(wrong)} tensors, first {wrong[0]}")
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(
                f"{cls.name}: weights of source {source!r} are not those of {table.SOURCES[spelling]} ({reason})"
            ) from error
        return method.eval()
