"""Surfaces of a result: every region as a closed mesh in millimetres, STL and OBJ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.inference.output.options import OutputOptions
from anymri.inference.output.result import NOTICE, Result

__all__ = ["region_surface", "write_surfaces"]

#: Levels of the surface between outside (0) and inside (1) that are tried.
LEVELS = (0.02, 0.98)
#: Part of the volume by which the surface may miss that of the voxels; the search ends there.
TOLERANCE = 0.002
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_surfaces(result: Result, folder: Path, options: OutputOptions) -> None:
    """Write ``surfaces/<region>.stl`` and ``.obj``; a region without voxels has none.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the result.
    options : OutputOptions
    """
    from trimesh.exchange.obj import export_obj
    from trimesh.exchange.stl import export_stl

    label = result.view.label
    if label is None:
        return
    place = folder / "surfaces"
    place.mkdir()
    for region in result.volumes_ml:
        mesh = region_surface(np.isin(label, result.spec.region_values(region)), result.view.geometry.affine_dhw)
        if mesh is None:
            continue
        guess = " (a guess)" if region in result.unknown else ""
        about = f"anymri {region}{guess}, mm, SPACE=LPS"
        # The first 80 bytes of an STL file are free text, where 3D Slicer looks for the space.
        (place / f"{region}.stl").write_bytes(about.encode("ascii")[:80].ljust(80) + export_stl(mesh)[80:])
        text = export_obj(mesh, header=f"{about}\n# {NOTICE}", digits=4)
        (place / f"{region}.obj").write_text(text, encoding="utf-8", newline="\n")


def region_surface(region: NDArray[np.bool_], affine: NDArray[np.float64]) -> Any:
    """Closed surface around the voxels of a region.

    Parameters
    ----------
    region : bool array, shape (D, H, W)
    affine : ndarray, shape (4, 4)
        Index (d, h, w) to world position in mm, RAS+.

    Returns
    -------
    trimesh.Trimesh or None
        Vertices in mm, LPS+ as DICOM and 3D Slicer have it; normals outwards. It cuts the way between a voxel inside
        and one outside where its volume becomes that of the voxels. None if there is no voxel.
    """
    from trimesh import Trimesh

    filled = np.argwhere(region)
    if not len(filled):
        return None
    start, stop = filled.min(axis=0), filled.max(axis=0) + 1
    field = np.pad(region[tuple(map(slice, start, stop))].astype(np.float32), 1)
    shift = np.eye(4)
    shift[:3, 3] = start - 1
    place = _TO_LPS @ affine @ shift
    wanted = len(filled) * abs(np.linalg.det(affine[:3, :3]))
    low, high = LEVELS
    vertices, faces = _march(field, (low + high) / 2, place)
    while high - low > 1e-3:
        volume = _volume(vertices, faces)
        if abs(volume - wanted) <= TOLERANCE * wanted:
            break
        middle = (low + high) / 2
        low, high = (middle, high) if volume > wanted else (low, middle)  # a higher level lies further inside
        vertices, faces = _march(field, (low + high) / 2, place)
    return Trimesh(vertices, faces, process=False)


def _march(field: NDArray[np.float32], level: float, place: NDArray[np.float64]) -> tuple[Any, Any]:
    """Vertices in mm and triangles that turn anticlockwise seen from outside."""
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(field, level, allow_degenerate=False)
    vertices = vertices @ place[:3, :3].T + place[:3, 3]
    if _volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices, faces


def _volume(vertices: NDArray[np.float64], faces: NDArray[Any]) -> float:
    """Volume within a closed surface, in mm3; negative if its normals point inwards."""
    corners = vertices[faces] - vertices.mean(axis=0)
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6
