"""Brain masks of other programs or from a file, if the user has them: HD-BET, SynthStrip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume, read_image, write_image
from anymri.locks import scratch_folder
from anymri.types import UserError

__all__ = ["external_brain_mask", "find_brain_tool"]

#: Name of the choice to the program's name.
PROGRAMS = {"hd-bet": "hd-bet", "synthstrip": "mri_synthstrip"}
#: Longest time a program may take, in seconds.
LONGEST_S = 3600


def find_brain_tool(choice: str) -> str:
    """Settle what makes the brain mask.

    Parameters
    ----------
    choice : str
        See `anymri.data.raw.study.RawOptions`.

    Returns
    -------
    str
        ``"template"``, ``"none"``, a name of `PROGRAMS` or the path of a file.

    Raises
    ------
    UserError
        If a program was asked for and is not installed, or there is no such file.
    """
    if choice in ("template", "none"):
        return choice
    if choice == "auto":
        return next((name for name in ("synthstrip", "hd-bet") if shutil.which(PROGRAMS[name])), "template")
    if choice in PROGRAMS:
        if shutil.which(PROGRAMS[choice]) is None:
            raise UserError(
                f"--brain-mask {choice}: the program {PROGRAMS[choice]} is not installed; install it or use template"
            )
        return choice
    if not Path(choice).is_file():
        raise UserError(
            f"--brain-mask {choice}: no such file; choose auto, template, {', '.join(PROGRAMS)}, none or a mask's path"
        )
    return choice


def external_brain_mask(tool: str, image: Volume) -> NDArray[np.bool_]:
    """Mask on the grid of an image, by a program or from a file.

    Parameters
    ----------
    tool : str
        From `find_brain_tool`.
    image : Volume

    Returns
    -------
    ndarray of bool, shape (D, H, W)

    Raises
    ------
    UserError
        If the program fails or the mask is on another grid.
    """
    if tool not in PROGRAMS:
        return _check(read_image(tool, kind="label"), image.geometry, tool)
    with scratch_folder() as place:
        plain = Geometry(image.geometry.affine, image.geometry.shape)
        write_image(place / "image.nii.gz", image.array, plain, np.float32)
        if tool == "hd-bet":
            arguments = ["-i", "image.nii.gz", "-o", "brain.nii.gz", "--save_bet_mask", "--no_bet_image"]
            written = place / "brain_bet.nii.gz"
        else:
            arguments = ["-i", "image.nii.gz", "-m", "mask.nii.gz"]
            written = place / "mask.nii.gz"
        command = [str(shutil.which(PROGRAMS[tool])), *arguments]
        try:
            run = subprocess.run(command, cwd=place, capture_output=True, check=False, timeout=LONGEST_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(
                f"{PROGRAMS[tool]}: did not finish ({type(error).__name__}); use --brain-mask template"
            ) from None
        if run.returncode or not written.is_file():
            raise UserError(f"{PROGRAMS[tool]}: failed (code {run.returncode}); use --brain-mask template")
        return _check(read_image(written, kind="label"), image.geometry, PROGRAMS[tool])


def _check(mask: Volume, geometry: Geometry, name: str) -> NDArray[np.bool_]:
    if not mask.geometry.matches(geometry, tolerance=1e-2):
        raise UserError(f"{name}: the brain mask is on another grid than the reference; resample it to that image")
    return mask.array != 0
