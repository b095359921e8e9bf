"""Checkpoints that survive a kill at any moment.

Two slots are written in turn; a small pointer file says which one counts. Nothing that counts is ever overwritten,
so whatever moment the process dies at, the pointer names a whole checkpoint. Only plain values and tensors are
stored, and they are read without pickle's freedom to run code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch

from anymri.files import RefusedWrite, inside, remove_leftovers, replace_file
from anymri.records import read_record, record_text
from anymri.training.run_records import Pointer, Slot
from anymri.types import UserError

__all__ = ["CheckpointStore"]

POINTER = "checkpoint.json"
SLOTS = ("checkpoint-a.pt", "checkpoint-b.pt")


class CheckpointStore:
    """The two checkpoint slots of one run folder.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Attributes
    ----------
    after_step : callable
        Called with the name of every step of `write` that is done; tests end the process there.
    """

    after_step: ClassVar[Callable[[str], None]] = staticmethod(lambda name: None)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, state: dict[str, Any]) -> None:
        """Store a state of tensors and plain values; an older one counts until the last steps.

        Raises
        ------
        UserError
            If the disk is full or the folder cannot be written.
        """
        pointer = self._pointer()
        current = pointer.current if pointer else None
        slot = SLOTS[1] if current and current.file == SLOTS[0] else SLOTS[0]
        target, pointer_path = self.folder / slot, self.folder / POINTER
        try:
            self._write(target, "state", lambda file: torch.save(state, file))
            named = record_text(_pointer_to(target, current))
            self._write(pointer_path, "pointer", lambda file: file.write(named))
        except RuntimeError as error:  # torch's own
            raise RefusedWrite(target, str(error).splitlines()[0]) from None

    def _write(self, path: Path, what: str, write: Callable[[Any], Any]) -> None:
        """Put one file in its place, on the disk before the next is begun."""
        after = type(self).after_step
        with replace_file(path, durable=True, done=lambda step: after(f"{what}: {step}")) as file:
            write(file)
            file.flush()
            after(f"{what}: write")

    def read(self) -> dict[str, Any] | None:
        """Newest whole checkpoint on the CPU, or None if there is none yet.

        Raises
        ------
        UserError
            If checkpoints were written and none of them is whole, or the pointer is damaged.
        """
        pointer = self._pointer()
        if pointer is None:
            return None
        for slot in (pointer.current, pointer.previous):
            path = inside(self.folder, slot.file) if slot else None
            if path is not None and slot is not None and path.is_file() and _digest(path) == slot.sha256:
                return torch.load(path, map_location="cpu", weights_only=True)
        raise UserError(f"{self.folder}: its checkpoints are damaged; train into a new folder")

    def clear(self) -> None:
        """Remove everything this store wrote; the pointer first, so that a kill leaves no dangling one."""
        for name in (POINTER, *SLOTS):
            (self.folder / name).unlink(missing_ok=True)
        remove_leftovers(self.folder)

    def _pointer(self) -> Pointer | None:
        path = self.folder / POINTER
        return read_record(path, Pointer, "train into a new folder") if path.exists() else None


def _pointer_to(target: Path, previous: Slot | None) -> dict[str, Any]:
    current = Slot(file=target.name, sha256=_digest(target))  # type: ignore[arg-type]
    return {"format": 1, "current": asdict(current), "previous": None if previous is None else asdict(previous)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
