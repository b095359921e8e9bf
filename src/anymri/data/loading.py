"""Batch loading from the cache: crops, augmentation and prefetching, a pure function of seed, epoch and step.

Whether a run was interrupted cannot be seen in its batches: `PatchLoader.batch` keeps no state between calls.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.augment import AUGMENTATIONS, Crop
from anymri.data.transplant import transplant
from anymri.data.unpaired import UnpairedCrop, draw_sources, one_sequence
from anymri.types import UNLABELLED, Batch, UserError, Where

if TYPE_CHECKING:
    from anymri.data.cache import Cache
    from anymri.data.study import Study

__all__ = ["PatchLoader", "volume_batch"]

#: Foreground voxels remembered of each label of a subject, evenly spread over the label.
_REMEMBERED = 4096


class PatchLoader:
    """Batches of random crops, or of whole volumes, of the given subjects.

    Parameters
    ----------
    cache : Cache
    subject_ids : sequence of str
        Subjects to draw from.
    patch : tuple of int or None
        Crop (D, H, W) in voxels; None = the whole volume, with batch size 1.
    batch_size : int
    seed : int or str, default=0
    augment : {"standard", "strong", "none"}, default="standard"
        See `anymri.data.augment`.
    steps_per_epoch : int or None, default=None
        None = one pass over the subjects, rounded up to whole batches.
    foreground : float, default=1/3
        Share of crops centred on a labelled voxel: of a label drawn from those the subject has, with equal
        probability, a random voxel.
    unpaired : bool, default=False
        Whether every modality of a row comes from another subject, see `anymri.data.unpaired.draw_sources`; each is
        cropped and augmented on its own, within its own brain.
    transplants : float, default=0.0
        Share of rows that get the lesion of another subject, drawn as often as it is shown, besides their own; see
        `anymri.data.transplant`. Where the two do not fit, and in unpaired rows, the row stays as it is.

    Raises
    ------
    UserError
        If there is no subject, one alone for unpaired rows, or the augmentation is unknown.
    ValueError
        If whole volumes are asked for with another batch size than 1.

    Notes
    -----
    Subjects come in random order without repetition until all were drawn, then in a new order, and so on within an
    epoch; every epoch starts anew.
    """

    def __init__(
        self,
        cache: Cache,
        subject_ids: Sequence[str],
        patch: Sequence[int] | None,
        batch_size: int,
        seed: int | str = 0,
        augment: str = "standard",
        *,
        steps_per_epoch: int | None = None,
        foreground: float = 1 / 3,
        unpaired: bool = False,
        transplants: float = 0.0,
    ) -> None:
        if not subject_ids:
            raise UserError("no subject to load; check the split, its fold and its part")
        if unpaired and len(set(subject_ids)) < 2:
            raise UserError(f"unpaired rows need two subjects, {subject_ids[0]} is alone; check the split")
        if augment not in AUGMENTATIONS:
            raise UserError(f"unknown augmentation {augment!r}; known: {', '.join(AUGMENTATIONS)}")
        if patch is None and batch_size != 1:
            raise ValueError("whole volumes differ in shape: use batch size 1, or a patch")
        self.cache = cache
        self.subject_ids = tuple(subject_ids)
        self.patch = None if patch is None else tuple(int(size) for size in patch)
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.foreground = foreground
        self.unpaired = unpaired
        self.transplants = transplants
        self.steps_per_epoch = steps_per_epoch or -(-len(self.subject_ids) // batch_size)
        self._studies: dict[str, Study] = {}
        self._voxels: dict[str, list[NDArray[np.int64]]] = {}
        self._labels = any(self._study(name).label is not None for name in self.subject_ids)

    def batch(self, stage_index: int, epoch: int, step: int) -> Batch:
        """The batch of one step; the same arguments always give the same batch.

        Parameters
        ----------
        stage_index, epoch, step : int
            Counted from 0; the epoch within its stage, the step within its epoch.

        Returns
        -------
        Batch
            `available` equals `present`; the loop draws the subset. `image` is NaN where not present. Outside the
            volume, image and label are 0. `where` says where the crop was cut; mirroring is in `where.flipped`, a
            rotation or scaling by ``augment="strong"`` is not. Where some subjects have a label map and some have none,
            `label` is `UNLABELLED` in the rows of the latter, in an augmented crop and beyond the volume too.
        """
        rows = range(step * self.batch_size, (step + 1) * self.batch_size)
        drawn = [self._draw_subject(stage_index, epoch, position) for position in rows]
        return self.crops(drawn, stage_index, epoch, step)

    def crops(self, subject_ids: Sequence[str], *key: int | str) -> Batch:
        """A batch of the given subjects, cropped and augmented by random numbers that depend on the key alone."""
        make = self._unpaired_row if self.unpaired else self._row
        return _collate([make(name, *key, row) for row, name in enumerate(subject_ids)], self.cache, self._labels)

    def _row(self, subject_id: str, *key: int | str) -> Crop:
        self.cache.verify(subject_id)  # at its first use; later calls cost nothing
        study = self._study(subject_id)
        return self._crop(study, _generator(self.seed, "crop", *key), self._with_lesion(study, *key))

    def _with_lesion(self, study: Study, *key: int | str) -> Study:
        """The study, or the study with a lesion of another one too."""
        random = _generator(self.seed, "transplant", *key)
        if random.random() >= self.transplants:
            return study
        name = self.subject_ids[random.integers(len(self.subject_ids))]
        if name == study.subject_id:
            return study
        self.cache.verify(name)
        return transplant(study, self._study(name), mirrored=bool(random.random() < 0.5))

    def _unpaired_row(self, subject_id: str, *key: int | str) -> UnpairedCrop:
        present = {name: self._study(name).present for name in self.subject_ids}
        sources = draw_sources(subject_id, present, self.subject_ids, _generator(self.seed, "unpaired", *key))
        crops = {}
        for channel, name in sources.items():
            self.cache.verify(name)
            study = one_sequence(self._study(name), channel, label=name == subject_id)
            crops[channel] = self._crop(study, _generator(self.seed, "crop", *key, channel))
        return UnpairedCrop(crops, len(present[subject_id]))

    def batches(self, stage_index: int, epoch: int, start: int = 0, prefetch: int = 3) -> Iterator[Batch]:
        """The batches of an epoch in order, prepared by a background thread.

        Parameters
        ----------
        stage_index, epoch : int
        start : int, default=0
            First step, when resuming within an epoch.
        prefetch : int, default=3
            Batches held ready; 0 = no thread.
        """
        steps = range(start, self.steps_per_epoch)
        make = [lambda step=step: self.batch(stage_index, epoch, step) for step in steps]
        return _prefetch(make, prefetch) if prefetch else (function() for function in make)

    def _study(self, subject_id: str) -> Study:
        if subject_id not in self._studies:
            self._studies[subject_id] = self.cache.entry(subject_id)
        return self._studies[subject_id]

    def _draw_subject(self, stage_index: int, epoch: int, position: int) -> str:
        turn, place = divmod(position, len(self.subject_ids))
        order = _generator(self.seed, "order", stage_index, epoch, turn).permutation(len(self.subject_ids))
        return self.subject_ids[order[place]]

    def _crop(self, study: Study, random: np.random.Generator, shown: Study | None = None) -> Crop:
        """A crop of the study, placed by its own lesion and brain; `shown`: what to cut instead, of the same shape."""
        if self.patch is None:
            (origin, stop), _ = study.frame(study.present)
            size = stop - origin
        else:
            size = np.array(self.patch)
            origin = self._origin(study, size, random)
        crop = Crop(shown or study, origin, size)
        AUGMENTATIONS[self.augment](crop, random)
        return crop

    def _origin(self, study: Study, size: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """First voxel of a crop that stays in the brain, or covers it where the crop is larger than the brain."""
        start, stop = study.box(study.present)
        low, high = np.minimum(start, stop - size), np.maximum(start, stop - size)
        labels = self._labelled_voxels(study)
        if labels and random.random() < self.foreground:
            voxels = labels[random.integers(len(labels))]
            centre = np.array(np.unravel_index(voxels[random.integers(len(voxels))], study.image.shape[1:]))
            return (centre - size // 2).clip(low, high)
        return random.integers(low, high + 1)

    def _labelled_voxels(self, study: Study) -> list[NDArray[np.int64]]:
        """Flat positions of voxels of each label the subject has."""
        if study.label is None:
            return []
        if study.subject_id not in self._voxels:
            flat = np.asarray(study.label).ravel()
            inside = np.flatnonzero((flat != 0) & (flat != (study.ignore or 0)))
            values = flat[inside]
            groups = [inside[values == value] for value in np.unique(values)]
            self._voxels[study.subject_id] = [
                group[np.linspace(0, len(group) - 1, min(len(group), _REMEMBERED)).astype(np.int64)] for group in groups
            ]
        return self._voxels[study.subject_id]


def volume_batch(cache: Cache, subject_id: str) -> Batch:
    """One whole brain (`anymri.data.study.Study.frame`), unchanged, as a batch of one row.

    Parameters
    ----------
    cache : Cache
    subject_id : str

    Returns
    -------
    Batch
        `available` equals `present`.
    """
    cache.verify(subject_id)
    study = cache.entry(subject_id)
    start, stop = study.frame(study.present)[0]
    crop = Crop(study, start, stop - start)
    return _collate([crop], cache, crop.label is not None)


def _collate(crops: Sequence[Crop | UnpairedCrop], cache: Cache, labels: bool) -> Batch:
    """One batch of the crops; `labels`: whether any subject of the cohort has a label map."""
    present = torch.stack([crop.present for crop in crops])
    where = Where(
        origin=torch.stack([torch.as_tensor(crop.place, dtype=torch.int64) for crop in crops]),
        volume_shape=torch.stack([torch.as_tensor(crop.frame_shape, dtype=torch.int64) for crop in crops]),
        flipped=torch.stack([torch.as_tensor(crop.flipped) for crop in crops]),
    )
    names, identity = _identity(crops, present)
    images = [crop.image for crop in crops]
    return Batch(
        # A whole volume is not copied once more.
        image=torch.stack(images) if len(images) > 1 else images[0][None],
        label=torch.stack([_label(crop) for crop in crops]) if labels else None,
        present=present,
        available=present.clone(),
        statistics=torch.stack([crop.statistics for crop in crops]),
        where=where,
        subject_ids=names,
        identity=identity,
        site=_places(cache.sites, [crop.study.site for crop in crops]),
        class_label=_places(cache.class_labels, [crop.study.class_label for crop in crops]),
        arrays=tuple(_arrays(cache, crop.subject_id) for crop in crops),
    )


def _arrays(cache: Cache, subject_id: str) -> dict[str, Tensor]:
    found = {} if cache.tables is None else cache.tables.read(subject_id)
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _identity(crops: Sequence[Crop | UnpairedCrop], present: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Names of the subjects, those of the rows first, and the place among them of each channel's subject."""
    names = [crop.subject_id for crop in crops]
    identity = torch.where(present, torch.arange(len(crops))[:, None], -1)
    for row, crop in enumerate(crops):
        for channel, name in crop.others.items() if isinstance(crop, UnpairedCrop) else ():
            if name not in names:
                names.append(name)
            identity[row, channel] = names.index(name)
    return tuple(names), identity


def _places(names: Sequence[str], found: Sequence[str]) -> Tensor:
    """Where each name stands in the list; -1 for an unknown one."""
    return torch.tensor([names.index(name) if name in names else -1 for name in found])


def _label(crop: Crop | UnpairedCrop) -> Tensor:
    return torch.full(crop.image.shape[1:], UNLABELLED) if crop.label is None else crop.label.long()


def _generator(*key: int | str) -> np.random.Generator:
    """Random numbers that depend on the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _prefetch(make: Sequence[Callable[[], Batch]], depth: int) -> Iterator[Batch]:
    """Call the functions in order in a thread and yield what they give; errors of the thread are raised here."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for function in make:
                if stopped.is_set():
                    return
                put(function())
            put(None)
        except BaseException as error:  # handed to the consumer, not swallowed
            put(error)

    threading.Thread(target=work, daemon=True, name="anymri-prefetch").start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
