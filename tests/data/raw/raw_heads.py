"""Small heads for tests: the average brain with skull and scalp, in any contrast and pose."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw.grids import sample
from anymri.data.raw.template import load_template

#: Brightness of CSF, grey and white matter, and fat.
CONTRASTS = {
    "t1": (0.35, 0.75, 1.0, 1.6),
    "t1c": (0.35, 0.75, 1.0, 1.6),
    "t2": (1.8, 1.2, 0.9, 1.1),
    "flair": (0.25, 1.1, 0.9, 0.8),
}


def motion(degrees: tuple[float, float, float] = (0, 0, 0), shift: tuple[float, float, float] = (0, 0, 0)):
    """Rigid world matrix: turns about x, y and z, then a shift in mm."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = (k for k in range(3) if k != axis)
        turn = np.eye(4)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix[:3, 3] = shift
    return matrix


def head(
    code: str, spacing=(4.0, 3.0, 3.0), pose=None, scale: float = 0.92, seed: int = 0
) -> tuple[Volume, np.ndarray]:
    """A head image on a scanner's grid of spacing (D, H, W), and its brain."""
    template = load_template(2)
    csf, grey, white, fat = CONTRASTS[code]
    brain = template.brain
    fluid = np.clip(brain - template.grey - template.white, 0, 1)
    away = ndimage.distance_transform_edt(brain < 0.5) * 2.0
    scalp = ((away > 7) & (away <= 13)).astype(np.float32)
    image = csf * fluid + grey * template.grey + white * template.white + fat * scalp
    low, high = np.array([-96.0, -132.0, -66.0]), np.array([96.0, 92.0, 96.0])
    shape = np.ceil((high - low) / np.array(spacing)[::-1]).astype(int)
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = low
    geometry = Geometry(affine, tuple(shape))
    # World of the image to MNI: undo the pose, then the smaller size.
    back = np.diag([1 / scale] * 3 + [1.0]) @ np.linalg.inv(np.eye(4) if pose is None else pose)
    array = sample(image, template.geometry, geometry, back)
    inside = sample(brain, template.geometry, geometry, back) > 0.5
    noise = np.random.default_rng(seed).normal(0, 0.02, (2, *array.shape))
    array = 400 * np.hypot(array + noise[0], noise[1]).astype(np.float32)
    return Volume(array, geometry, f"{code}.nii.gz"), inside
