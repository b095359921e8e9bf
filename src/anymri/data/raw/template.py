"""The average brain that raw studies are registered to: tissue maps with an artificial head around them.

The maps are the ICBM 2009a nonlinear symmetric average [1]_, which nilearn installs; they are read from there at run
time and are not part of this package. They end at the brain's surface, so a head registered to them would be blown
up until its scalp fits the brain; therefore a dark skull and a bright scalp are drawn around.

References
----------
.. [1] V. Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54(1), 2011,
   DOI 10.1016/j.neuroimage.2010.07.033.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.geometry import Geometry, from_native
from anymri.errors import UserError

__all__ = ["BRAIN_CENTRE_MM", "Template", "load_template", "read_map"]

#: MNI position (x, y, z) of the middle of the template's brain.
BRAIN_CENTRE_MM = (0.0, -18.0, 8.0)
#: Drawn around the brain, distances from its surface in mm: skull, then scalp, then nothing is compared.
SKULL_MM, SCALP_MM = 8.0, 14.0
#: How much of the skull is compared in the end, in mm from the brain.
NEAR_MM = 5.0
#: Grey value of the drawn scalp; white matter is about 0.8. It must differ from all tissue.
SCALP_VALUE = 1.1
#: Below this MNI height (mm) skull and scalp are not compared: there are face and neck.
FACE_MM = -20.0


@dataclass(frozen=True)
class Template:
    """Maps of the average brain on one grid, arrays (D, H, W) in MNI space.

    Parameters
    ----------
    grey, white, brain : ndarray of float32
        Share of each voxel, 0 to 1. CSF is what is brain but neither grey nor white.
    head : ndarray of float32
        T1-like grey value with skull and scalp drawn.
    compared, near : ndarray of bool
        Where `head` says anything; and the brain with the inner part of its skull alone, as scalps differ.
    geometry : Geometry
    """

    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    brain: NDArray[np.float32]
    head: NDArray[np.float32]
    compared: NDArray[np.bool_]
    near: NDArray[np.bool_]
    geometry: Geometry


def read_map(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One of the template's files: values from 0 to 1, axes (D, H, W), and its native affine.

    Parameters
    ----------
    name : {"t1", "gm", "wm"}

    Raises
    ------
    UserError
        If nilearn or its template files are missing.
    """
    import nibabel

    # Found, not imported: nilearn brings scikit-learn and all of scipy.stats, seconds for every process.
    nilearn = find_spec("nilearn")
    if nilearn is None or nilearn.origin is None:
        raise UserError("nilearn, which brings the average brain, is not installed; run: pip install 'anymri[phantom]'")
    folder = Path(nilearn.origin).parent / "datasets" / "data"
    path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise UserError(f"{path}: the template is missing; reinstall nilearn 0.12 or later")
    image = nibabel.nifti1.Nifti1Image.from_filename(path)
    affine = np.asarray(image.affine, np.float64)
    return np.ascontiguousarray(from_native(np.asarray(image.dataobj), affine)) / 255.0, affine


@lru_cache(maxsize=2)
def load_template(step_mm: int = 2) -> Template:
    """Read the template, draw the head and thin it out; kept in memory for the next study.

    Parameters
    ----------
    step_mm : int, default=2
        Voxel size.

    Raises
    ------
    UserError
        If nilearn or its template files are missing.
    """
    read = [read_map(name) for name in ("t1", "gm", "wm")]
    affine = read[0][1].copy()
    margin = 20  # room for the head, in the template's voxels of 1 mm
    maps = [np.pad(values.astype(np.float32), margin) for values, _ in read]
    affine[:3, 3] -= margin
    brain = (maps[0] > 0).astype(np.float32)
    maps = [maps[0], maps[1] * brain, maps[2] * brain, brain]
    if step_mm > 1:
        maps = [ndimage.gaussian_filter(values, 0.35 * step_mm) for values in maps]
    t1, grey, white, brain = (np.ascontiguousarray(values[::step_mm, ::step_mm, ::step_mm]) for values in maps)
    affine = affine @ np.diag([step_mm, step_mm, step_mm, 1.0])
    depth, height, width = t1.shape
    geometry = Geometry(affine, (width, height, depth))
    away_mm = ndimage.distance_transform_edt(brain < 0.5) * step_mm
    scalp = np.clip((away_mm - SKULL_MM) / step_mm + 0.5, 0, 1) * (away_mm <= SCALP_MM)
    level = np.percentile(t1[white > 0.9], 50) / 0.8
    height_mm = (affine[2, 3] + step_mm * np.arange(depth))[:, None, None]
    compared = (away_mm <= SCALP_MM) & ((height_mm > FACE_MM) | (away_mm <= 0))
    return Template(
        grey=grey,
        white=white,
        brain=np.clip(brain, 0, 1),
        head=(t1 / level + SCALP_VALUE * scalp).astype(np.float32),
        compared=compared,
        near=compared & (away_mm <= NEAR_MM),
        geometry=geometry,
    )
