"""REPLICA: synthesis by multi-scale random forests on patches and context features."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Count, Counts, Depth, Samples
from anymri.memory import free_bytes
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset, with_target
from anymri.types import GLIOMA, Batch, DataSpec, Prediction, Stage, UserError

__all__ = ["Replica", "ReplicaConfig"]

#: Voxels that go through the trees together.
CHUNK = 32768


@dataclass(frozen=True, kw_only=True)
class ReplicaConfig(MethodConfig):
    """Settings of REPLICA; defaults are the paper's as far as they are known.

    Parameters
    ----------
    target : str or None, default=None
        Modality to synthesise from those of `subset`; None = the last one outside it.
    scales : int
        Each has half the resolution of the one before.
    trees, min_leaf : int
        Trees of each scale's forest, and the fewest training voxels of a leaf.
    max_depth : int or None
        Deepest level of a tree; None = as deep as `min_leaf` lets it grow.
    feature_share : float
        Share of the features that a split chooses from.
    atlases : int
        Training subjects to learn from: the first that have all sequences.
    samples : int
        Voxels drawn from each of them at each scale.
    folds : int
        Into how many parts the subjects are divided to give each a coarse synthesis that has not seen it.
    directions : int
        Of the context, evenly around the voxel within its axial slice; 0 = no context.
    radii, cubes : tuple of int
        Distances of the context and edges of the cubes averaged there, in voxels of the finest scale.
    """

    target: str | None = None
    scales: Depth = 3
    trees: Count = 60
    min_leaf: Count = 5
    max_depth: Count | None = None
    feature_share: Annotated[float, Field(gt=0, le=1)] = 1 / 3
    atlases: Count = 5
    samples: Samples = 100_000
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    directions: Annotated[int, Field(ge=0, le=1000)] = 8
    radii: Counts = (4, 8, 16, 32)
    cubes: Counts = (3, 5, 7, 9)


class _Forest(nn.Module):
    """Regression trees as one table of nodes; a leaf has feature -1. Fresh: one tree that says 0."""

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    roots: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feature", torch.full((1,), -1, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(1))
        self.register_buffer("left", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("right", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(1))
        self.register_buffer("roots", torch.zeros(1, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the trees, (N,) from features (N, F)."""
        return torch.cat([self._predict(part) for part in x.split(CHUNK)]) if len(x) else x.new_zeros(0)

    def _predict(self, x: Tensor) -> Tensor:
        node = self.roots.long().expand(len(x), -1)
        while bool((inner := self.feature[node] >= 0).any()):
            value = x.gather(1, self.feature[node].clamp_min(0).long())
            lower = torch.where(value <= self.threshold[node], self.left[node], self.right[node])
            node = torch.where(inner, lower.long(), node)
        return self.value[node].mean(dim=1)

    def take(self, trees: Sequence[Any]) -> None:
        """Hold the trees of scikit-learn (``estimator.tree_``)."""
        starts = torch.tensor([0, *(tree.node_count for tree in trees)]).cumsum(0)
        feature = [torch.from_numpy(tree.feature.copy()).clamp_min(-1) for tree in trees]
        # Rounded down: the values compared are 32 bits wide, so this changes no decision.
        wide = torch.cat([torch.from_numpy(tree.threshold.copy()) for tree in trees])
        narrow = wide.float()
        below = torch.nextafter(narrow, torch.full_like(narrow, -math.inf))
        self.threshold = torch.where(narrow.double() > wide, below, narrow)
        self.feature = torch.cat(feature).int()
        for name in ("left", "right"):
            children = [torch.from_numpy(getattr(tree, f"children_{name}").copy()) for tree in trees]
            moved = [child.clamp_min(0) + start for child, start in zip(children, starts, strict=False)]
            setattr(self, name, torch.cat(moved).int())
        self.value = torch.cat([torch.from_numpy(tree.value[:, 0, 0].copy()) for tree in trees]).float()
        self.roots = starts[:-1].int()


class _Scale(NamedTuple):
    """One subject at one scale."""

    sources: Tensor  #: (n, d, h, w)
    foreground: Tensor  #: bool, (d, h, w)
    centre: Tensor  #: of the head within slices, in voxels (h, w)
    target: Tensor | None = None


class Replica(PerSubset[ReplicaConfig]):
    """REPLICA [1]_: synthesis of one sequence by random forests at three scales.

    Parameters
    ----------
    config : ReplicaConfig
        `subset` names the sources, `target` what is made of them.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset and makes one sequence; `PerSubsetModels` joins several. At the coarsest scale a
    forest predicts each voxel of the brain from the 3 x 3 x 3 patch around it in every source and from its context; at
    the finer scales the 3 x 3 x 3 patch of the coarser synthesis joins them. The context holds means of small cubes in
    several directions and distances, counted from the line between the voxel and the centre of the head, so that voxels
    alike in their patch are told apart by where they lie.

    A finer forest learns from coarse syntheses by forests that have not seen the subject (leave-one-out up to
    `folds`), as it will meet them; with a single training subject there is no such forest, and its own is used. Trees
    are grown by scikit-learn and kept as tables in buffers. There is no code by the authors.

    References
    ----------
    .. [1] Jog, Carass, Roy, Pham, Prince, "Random forest regression for magnetic resonance image synthesis",
       Medical Image Analysis 35, 2017, doi:10.1016/j.media.2016.08.009.
    """

    name = "replica"
    info = MethodInfo(
        title="REPLICA",
        family="synthesis",
        task="synthesis",
        year=2017,
        reference="Jog et al., Medical Image Analysis 2017",
        doi="10.1016/j.media.2016.08.009",
        parity="interpretation (no code)",
        novelty="Far context and coarse syntheses tell voxels with equal patches apart, without a network.",
        weakness="One forest per sources and target, and leaf means that blur and cannot leave the training range.",
        deviations=(
            "intensity inhomogeneity is not corrected (N4 in the paper): give corrected files",
            "trees, leaf size, features of a split, voxels drawn and unbounded depth are not known for sure; ours",
            "radii and cubes of the context, halved from scale to scale, and its axial plane are not known for sure",
            "smoothing before halving (deviation 1 voxel) is not stated",
            "z-score inside each modality's own brain instead of the peak of white matter",
        ),
    )
    presets = {
        "paper": Preset((Stage("fit", epochs=1, batch_size=1, patch=None, sampler="all"),)),
        "tiny": Preset(
            (Stage("fit", epochs=1, batch_size=1, patch=None, sampler="all"),),
            {
                "trees": 16,
                "max_depth": 16,
                "atlases": 12,
                "samples": 4000,
                "folds": 3,
                "radii": (2, 4, 8, 16),
                "cubes": (1, 3, 5, 7),
            },
        ),
    }
    classical = True
    outputs = ("image",)

    def __init__(self, config: ReplicaConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        super().__init__(config, spec)
        if len(config.radii) != len(config.cubes) or any(edge % 2 == 0 for edge in config.cubes):
            raise UserError("method.config.cubes: give one odd edge for every radius")
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        # Features come in this order of the sources, whatever that of the specification.
        self._order = [self.subset_modalities.index(code) for code in sorted(self.subset_modalities)]
        self.forests = nn.ModuleList(_Forest() for _ in range(config.scales))

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """The target, 0 outside the brain of the sources."""
        channel = self.spec.index(self.target)
        sources = sources[:, self._order].float()
        image = sources.new_full((len(sources), len(self.spec.modalities), *sources.shape[2:]), torch.nan)
        for row, subject in enumerate(sources):
            guide: Tensor | None = None
            for scale, at in reversed(list(enumerate(self._at_scales(subject)))):
                guide = self._synthesise(self.forests[scale], at, guide, scale)
            assert guide is not None
            image[row, channel] = guide
        synthesised = torch.zeros_like(available)
        synthesised[:, channel] = True
        return Prediction(image=image, synthesised=synthesised)

    def _synthesise(self, forest: nn.Module, at: _Scale, coarser: Tensor | None, scale: int) -> Tensor:
        """Image (d, h, w) of one scale, from the synthesis of the next coarser one."""
        made = torch.zeros_like(at.sources[0])
        voxels, means = at.foreground.nonzero(), self._cube_means(at, scale)
        for part in voxels.split(CHUNK):
            made[tuple(part.T)] = forest(self.features(at, coarser, part, scale, means))
        return made

    # --------------------------------------------------------------------------------------------------- features

    def features(
        self, at: _Scale, coarser: Tensor | None, voxels: Tensor, scale: int, means: list[Tensor] | None = None
    ) -> Tensor:
        """Patches, patch of the coarser synthesis (but at the coarsest scale) and context of some voxels.

        Parameters
        ----------
        at : _Scale
        coarser : Tensor, shape (d', h', w'), or None
        voxels : Tensor of int64, shape (N, 3)
        scale : int
            0 is the finest.
        means : list of Tensor or None, default=None
            Those of the cubes of this scale, where they are known already.

        Returns
        -------
        Tensor, shape (N, features)
        """
        images = at.sources
        if scale < self.config.scales - 1:
            guide = torch.zeros_like(images[0]) if coarser is None else _double(coarser, images.shape[1:])
            images = torch.cat([images, guide[None]])
        means = self._cube_means(at, scale) if means is None else means
        return torch.cat([_patches(images, voxels), *self._context(at, voxels, scale, means)], dim=1)

    def _cube_means(self, at: _Scale, scale: int) -> list[Tensor]:
        """Means of the cube around every voxel for each radius, (d * h * w, n): what lies together is read together."""
        edges = [2 * (edge // 2**scale // 2) + 1 for edge in self.config.cubes if self.config.directions]
        pooled = [F.avg_pool3d(at.sources[None], edge, stride=1, padding=edge // 2)[0] for edge in edges]
        return [means.flatten(1).T.contiguous() for means in pooled]

    def _context(self, at: _Scale, voxels: Tensor, scale: int, means: list[Tensor]) -> list[Tensor]:
        """Means of cubes around each voxel, by source."""
        config, columns = self.config, []
        _, height, width = at.sources.shape[1:]
        row, column = (voxels[:, 1 + axis] - at.centre[axis] for axis in (0, 1))
        angle = torch.atan2(row, column)
        for radius, values in zip(config.radii, means, strict=False):
            for number in range(config.directions):
                turned = angle + 2 * math.pi * number / config.directions
                y = voxels[:, 1] + (radius / 2**scale * turned.sin()).round().long()
                x = voxels[:, 2] + (radius / 2**scale * turned.cos()).round().long()
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
                place = (voxels[:, 0] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
                columns.append(torch.where(inside[:, None], values[place], 0.0))
        return columns

    def _at_scales(self, sources: Tensor, target: Tensor | None = None) -> list[_Scale]:
        """A subject at every scale, the finest first; without a target, the foreground is the brain of the sources."""
        foreground = (sources != 0).any(dim=0)
        if target is not None:
            foreground &= target != 0
        found = []
        for scale in range(self.config.scales):
            if scale:
                sources, foreground = _halve(sources), foreground[::2, ::2, ::2]
                target = None if target is None else _halve(target[None])[0]
            brain = (sources != 0).any(dim=0).nonzero()
            centre = brain[:, 1:].float().mean(dim=0) if len(brain) else torch.zeros(2, device=sources.device)
            found.append(_Scale(sources, foreground, centre, target))
        return found

    # ---------------------------------------------------------------------------------------------------- training

    def fit(self, subjects: Iterable[Batch], ctx: StepContext) -> dict[str, Tensor]:
        """Grow the forests, the coarsest first.

        Returns
        -------
        dict of str to Tensor
            Number of subjects, and of every scale the mean squared error on the voxels that were learned from.
        """
        atlases = self._atlases(subjects)
        if not atlases:
            raise UserError(f"replica: no training subject has {'+'.join(self.needs)}; choose other data")
        self._check_memory(atlases)
        seed = int(torch.randint(2**31 - 1, (1,), generator=ctx.generator))
        guides: list[Tensor | None] = [None] * len(atlases)
        logs = {"subjects": torch.tensor(float(len(atlases)))}
        for scale in reversed(range(self.config.scales)):
            samples = [self._draw(a[scale], guide, scale, ctx) for a, guide in zip(atlases, guides, strict=True)]
            forest = cast(_Forest, self.forests[scale])
            forest.take(self._grow(samples, seed))
            x, y = (torch.cat(part) for part in zip(*samples, strict=True))
            logs[f"mse_scale_{scale + 1}"] = ((forest(x) - y) ** 2).mean()
            if scale:
                guides = self._unseen(atlases, guides, samples, scale, seed)
        return logs

    def _atlases(self, subjects: Iterable[Batch]) -> list[list[_Scale]]:
        needed = [self.spec.index(code) for code in self.needs]
        found: list[list[_Scale]] = []
        for batch in subjects:
            for image, present in zip(batch.image, batch.present, strict=True):
                if bool(present[needed].all()) and len(found) < self.config.atlases:
                    sources = image[needed[:-1]][self._order].float()
                    found.append(self._at_scales(sources, image[needed[-1]].float()))
            if len(found) == self.config.atlases:
                break
        return found

    def _check_memory(self, atlases: list[list[_Scale]]) -> None:
        """Refuse samples that do not fit into the memory, before the first of them is drawn."""
        config, sources = self.config, len(self.needs) - 1
        context = sources * config.directions * min(len(config.radii), len(config.cubes))
        drawn = sum(min(config.samples, int(atlas[0].foreground.sum())) for atlas in atlases)
        nodes = config.trees * min(drawn // config.min_leaf, 2 ** min(1 + (config.max_depth or 60), 60))
        # At one time there are the samples of each subject, all of them joined, and those that a fold learns from; and
        # a forest as it grows (72 bytes a node) with those of the folds as tables (28).
        needed = 3 * 4 * drawn * (27 * (sources + 1) + context) + nodes * (72 + 28 * (1 + config.folds))
        free = free_bytes()
        if needed > free:
            raise UserError(
                f"replica: {drawn:,} samples take about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB "
                f"are free; lower samples ({config.samples:,}) or atlases ({config.atlases})"
            )

    def _draw(self, at: _Scale, coarser: Tensor | None, scale: int, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """Features and target of voxels drawn from the foreground."""
        assert at.target is not None
        voxels = at.foreground.nonzero()
        chosen = torch.randperm(len(voxels), generator=ctx.generator)[: self.config.samples]
        voxels = voxels[chosen]
        return self.features(at, coarser, voxels, scale), at.target[tuple(voxels.T)]

    def _grow(self, samples: Sequence[tuple[Tensor, Tensor]], seed: int) -> list[Any]:
        from sklearn.ensemble import RandomForestRegressor

        config = self.config
        forest = RandomForestRegressor(
            config.trees,
            min_samples_leaf=config.min_leaf,
            max_features=config.feature_share,
            max_depth=config.max_depth,
            random_state=seed,
            n_jobs=torch.get_num_threads(),
        )
        x, y = (torch.cat(part).numpy() for part in zip(*samples, strict=True))
        return [tree.tree_ for tree in forest.fit(x, y).estimators_]

    def _unseen(
        self,
        atlases: list[list[_Scale]],
        guides: list[Tensor | None],
        samples: list[tuple[Tensor, Tensor]],
        scale: int,
        seed: int,
    ) -> list[Tensor | None]:
        """Synthesis of every subject by a forest that has not seen it; by its own if there is no other."""
        folds = min(self.config.folds, len(atlases))
        made: list[Tensor | None] = []
        forests = []
        for fold in range(folds):
            others = [sample for number, sample in enumerate(samples) if number % folds != fold]
            forest = _Forest()
            forest.take(self._grow(others or samples, seed))
            forests.append(forest)
        for number, (atlas, guide) in enumerate(zip(atlases, guides, strict=True)):
            # As in prediction: the target's brain is not used.
            at = self._at_scales(atlas[0].sources)[scale]
            made.append(self._synthesise(forests[number % folds], at, guide, scale))
        return made


# --------------------------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------------------------


def _halve(images: Tensor) -> Tensor:
    """Every second voxel of (n, D, H, W) after smoothing with a deviation of one voxel."""
    weights = torch.exp(-0.5 * torch.arange(-3, 4, device=images.device) ** 2)
    weights = weights / weights.sum()
    x = images[:, None]
    # In 32 bits even under autocast: thresholds of the trees are 32-bit.
    with torch.autocast(images.device.type, enabled=False):
        for axis in range(3):
            shape, margin = [1] * 5, [0] * 6
            shape[2 + axis] = len(weights)
            margin[2 * (2 - axis)] = margin[2 * (2 - axis) + 1] = len(weights) // 2
            x = F.conv3d(F.pad(x, margin), weights.reshape(shape))
    return x[:, 0, ::2, ::2, ::2]


def _double(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo `_halve` by linear interpolation: voxel i of `image` lies at voxel 2 i of the finer grid."""
    size = [2 * n - 1 for n in image.shape]
    x = F.interpolate(image[None, None], size, mode="trilinear", align_corners=True)
    margin = [side for n, fine in zip(reversed(size), reversed(shape), strict=True) for side in (0, fine - n)]
    return F.pad(x, margin, mode="replicate")[0, 0]


def _patches(images: Tensor, voxels: Tensor) -> Tensor:
    """Patches of 3 x 3 x 3 voxels of all images (n, d, h, w), (N, 27 n); 0 outside."""
    padded = F.pad(images, [1] * 6)
    d, h, w = (voxels[:, axis] for axis in range(3))
    parts = [padded[:, d + i, h + j, w + k] for i in range(3) for j in range(3) for k in range(3)]
    return torch.stack(parts, dim=1).flatten(0, 1).T.contiguous()
