"""DICOM source of a volume: the slices it was read from, for results that refer to them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from anymri.data.dicom.headers import Frame, read_dataset
from anymri.types import UserError

__all__ = ["DicomSource"]


@dataclass(frozen=True, eq=False)
class DicomSource:
    """DICOM source of a volume.

    Parameters
    ----------
    frames : tuple of Frame
        Slices in the order of the volume's third native axis.
    """

    frames: tuple[Frame, ...] = field(repr=False)

    @cached_property
    def headers(self) -> dict[Path, Any]:
        """Header of each file without its pixels; read once, and before an unpacked archive goes.

        Raises
        ------
        UserError
            If a file is gone or changed since the voxels were read.
        """
        import pydicom

        found: dict[Path, Any] = {}
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            for file in dict.fromkeys(frame.file for frame in self.frames):
                try:
                    with file.open("rb") as handle:
                        found[file] = read_dataset(handle, stop_before_pixels=True)
                except Exception:  # whatever a damaged file raises
                    raise UserError(
                        f"{file}: cannot be read any more, and the result has to refer to it; put the study back"
                    ) from None
        return found
