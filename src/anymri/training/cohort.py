"""What a stage may read of its subjects beside its batches: whole volumes, and further batches within a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from anymri.data.loading import PatchLoader, volume_batch
from anymri.types import Batch, Role, UserError

if TYPE_CHECKING:
    from anymri.data.cache import Cache

__all__ = ["FurtherBatches", "Volumes"]


class Volumes:
    """Whole volumes as one-row batches, as often as asked.

    Parameters
    ----------
    cache : Cache
    subject_ids : sequence of str
    show : callable
        ``(batch, number) -> batch``: draws what is available and brings images to the method's scale.
    """

    def __init__(self, cache: Cache, subject_ids: Sequence[str], show: Callable[[Batch, int], Batch]) -> None:
        self.cache, self.subject_ids, self.show = cache, subject_ids, show

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __iter__(self) -> Iterator[Batch]:
        for number, subject in enumerate(self.subject_ids):
            yield self.show(volume_batch(self.cache, subject), number)


class FurtherBatches:
    """Batches of one stage that `StepContext.next_batch` gives, a pure function of their place in the training.

    Parameters
    ----------
    loader : PatchLoader
        Of the stage.
    pools : dict of str to tuple of str
        Subjects to draw from by role.
    stage_index : int
    """

    def __init__(self, loader: PatchLoader, pools: Mapping[Role, tuple[str, ...]], stage_index: int) -> None:
        self.loader, self.pools, self.stage_index = loader, pools, stage_index
        self.drawing: dict[Role, PatchLoader] = {}

    def draw(self, role: Role, batch: Batch, epoch: int, step: int, call: int) -> Batch:
        """One batch; the loop still has to draw what is available.

        Parameters
        ----------
        role : {"same", "complete", "partial"}
        batch : Batch
            The step's own.
        epoch, step, call : int
            Micro-batch of the epoch, and how many were drawn in this turn of it before.

        Raises
        ------
        UserError
            If no training subject has the role.
        """
        if role == "same":
            return self.loader.crops(batch.subject_ids[: len(batch.image)], self.stage_index, epoch, step, role, call)
        if role not in self.drawing:
            self.drawing[role] = self._loader(role)
        # A second batch of a step goes on where the first ones of the epoch end, so that subjects do not repeat.
        return self.drawing[role].batch(self.stage_index, epoch, step + call * self.loader.steps_per_epoch)

    def _loader(self, role: Role) -> PatchLoader:
        if not self.pools[role]:
            raise UserError(f"{self.loader.cache.folder}: no {role} subject to train on; choose other data or method")
        return PatchLoader(
            self.loader.cache,
            self.pools[role],
            self.loader.patch,
            self.loader.batch_size,
            # Other crops than those of the step's own batch.
            seed=f"{self.loader.seed}/{role}",
            augment=self.loader.augment,
            steps_per_epoch=self.loader.steps_per_epoch,
            foreground=self.loader.foreground,
            unpaired=self.loader.unpaired,
        )
