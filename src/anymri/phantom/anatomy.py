"""Healthy brain anatomy: a template of tissue maps, deformed anew for every subject.

The template is the ICBM 2009a nonlinear symmetric average [1]_ that nilearn installs; its files are read from
there at run time and are not part of this package.

References
----------
.. [1] V. Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54(1), 2011,
   DOI 10.1016/j.neuroimage.2010.07.033.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from anymri.data.raw.template import read_map
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid
from anymri.phantom.variation import Variation

__all__ = ["Anatomy", "Shape", "Template", "TemplateMap", "draw_shape", "load_template", "render_anatomy", "rotation"]

#: MNI coordinates (z, y, x) of the template's first voxel, and of the middle of its brain.
_TEMPLATE_ORIGIN_MM = np.array([-72.0, -134.0, -98.0])
_TEMPLATE_CENTRE_MM = np.array([5.0, -17.0, 0.0])
#: Half the extent (z, y, x) of the template's brain.
_TEMPLATE_HALF_MM = np.array([78.0, 91.0, 73.0])
#: Where the middle of the brain lies in the imaged volume (D, H, W), and how much smaller it is than MNI space, as
#: in the BraTS data sets (SRI24 space).
_VOLUME_CENTRE_MM = np.array([70.0, 110.0, 120.0])
_MEAN_SCALE = 0.93


@dataclass(frozen=True)
class TemplateMap:
    """The part of a template map that is not zero, with one voxel around it.

    Parameters
    ----------
    values : ndarray of float64, shape (z, y, x)
    start : tuple of int
        First voxel (z, y, x) of the part in the whole template.
    """

    values: np.ndarray
    start: tuple[int, int, int]


@dataclass(frozen=True)
class Template:
    """Tissue maps of the average brain, (z, y, x) in MNI orientation.

    Parameters
    ----------
    grey, white, brain, ventricle : TemplateMap
        Share of each voxel, 0 to 1. CSF is what is brain but neither grey nor white.
    towards_ventricle : tuple of three TemplateMap
        Direction (z, y, x) of steepest rise of the blurred ventricles; length at most 1, fading with distance. All
        three are kept in the same box.
    step_mm : int
        Voxel size.
    """

    grey: TemplateMap
    white: TemplateMap
    brain: TemplateMap
    ventricle: TemplateMap
    towards_ventricle: tuple[TemplateMap, ...]
    step_mm: int

    def _index(self, image: TemplateMap, coordinates_mm: np.ndarray) -> np.ndarray:
        """Fractional voxels of `image`."""
        shape = (3, *[1] * (coordinates_mm.ndim - 1))
        index = coordinates_mm - _TEMPLATE_ORIGIN_MM.reshape(shape)
        index /= self.step_mm
        index -= np.reshape(image.start, shape)  # exact: both sides are multiples of the same power of two
        return index

    def sample(self, image: TemplateMap, coordinates_mm: np.ndarray) -> np.ndarray:
        """Linear interpolation of a template map at MNI coordinates (3, ...); 0 outside."""
        index = self._index(image, coordinates_mm)
        return ndimage.map_coordinates(image.values, index, order=1, mode="constant", prefilter=False)

    def reaches(self, image: TemplateMap, coordinates_mm: np.ndarray) -> np.ndarray:
        """Where a map may differ from 0: bool, shape of one row of the MNI coordinates (3, ...)."""
        rows = zip(self._index(image, coordinates_mm), image.values.shape, strict=True)
        return np.logical_and.reduce([(row >= 0) & (row <= size - 1) for row, size in rows])


@dataclass(frozen=True)
class Shape:
    """Where each voxel of a subject lies in the template.

    Parameters
    ----------
    grid : Grid
        Box around the brain.
    coordinates_mm : ndarray of float64, shape (3, D, H, W)
        MNI coordinates (z, y, x) of every voxel.
    template : Template
    parameters : dict
        What was drawn.
    """

    grid: Grid
    coordinates_mm: np.ndarray
    template: Template
    parameters: dict

    def depth(self) -> np.ndarray:
        """How far inside the brain a voxel lies, blurred over 6 mm: 0 outside, about 0.5 at the surface, 1 deep."""
        brain = self.template.sample(self.template.brain, self.coordinates_mm)
        return ndimage.gaussian_filter(brain, 6.0 / self.grid.spacing_mm, truncate=2.5)


@dataclass(frozen=True)
class Anatomy:
    """Healthy tissue of one subject, arrays (D, H, W) on `grid`.

    Parameters
    ----------
    grid : Grid
    csf, grey, white : ndarray of float64
        Share of each voxel; their sum is 1 in the brain and 0 outside.
    ventricle : ndarray of float64
        Share of ventricle.
    brain : ndarray of bool
    coordinates_mm : ndarray of float64, shape (3, D, H, W)
        MNI coordinates (z, y, x).
    parameters : dict
        What was drawn.
    """

    grid: Grid
    csf: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    ventricle: np.ndarray
    brain: np.ndarray
    coordinates_mm: np.ndarray
    parameters: dict


def _find_ventricles(csf: np.ndarray) -> np.ndarray:
    """Share of ventricle: CSF near the middle of the template, in pieces of at least 0.5 ml."""
    z, y, x = (
        (np.arange(size) + origin).reshape([-1 if axis == i else 1 for i in range(3)])
        for axis, (size, origin) in enumerate(zip(csf.shape, _TEMPLATE_ORIGIN_MM, strict=True))
    )
    near = (z > -12) & (z < 38) & (y > -52) & (y < 38) & (np.abs(x) < 36)
    near &= ~((np.abs(x) > 22) & (y > -25))  # the Sylvian fissures
    near &= ~((np.abs(x) < 14) & (y < -22) & (z < 14))  # the quadrigeminal cistern
    pieces, _ = ndimage.label((csf > 0.5) & near)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    inside = (sizes >= 500)[pieces]
    return csf * ndimage.binary_dilation(inside, iterations=2)


def _crop(*images: np.ndarray) -> tuple[TemplateMap, ...]:
    """Keep of each map the box in which any of them is not zero, and one voxel around it."""
    shown = np.any([image != 0 for image in images], axis=0)
    box = []
    for axis, size in enumerate(shown.shape):
        places = np.nonzero(shown.any(axis=tuple(other for other in range(3) if other != axis)))[0]
        box.append(slice(max(0, int(places[0]) - 1), min(size, int(places[-1]) + 2)))
    start = (box[0].start, box[1].start, box[2].start)
    return tuple(TemplateMap(np.ascontiguousarray(image[box[0], box[1], box[2]]), start) for image in images)


@lru_cache(maxsize=3)
def load_template(step_mm: int) -> Template:
    """Read, smooth and thin out the template; kept in memory for the next subject.

    Parameters
    ----------
    step_mm : int
        Voxel size, 1 mm or more.

    Raises
    ------
    UserError
        If nilearn or its template files are missing.
    """
    brain = (read_map("t1")[0] > 0).astype(float)
    grey, white = (read_map(name)[0] * brain for name in ("gm", "wm"))
    ventricle = _find_ventricles(np.clip(brain - grey - white, 0, 1))
    maps = [grey, white, brain, ventricle]
    if step_mm > 1:
        maps = [ndimage.gaussian_filter(image, 0.35 * step_mm) for image in maps]
    maps = [image[::step_mm, ::step_mm, ::step_mm] for image in maps]
    slope = np.stack(np.gradient(ndimage.gaussian_filter(maps[3], 7.0 / step_mm)))
    slope /= np.sqrt((slope**2).sum(axis=0)).max()
    grey_map, white_map, brain_map, ventricle_map = (_crop(image)[0] for image in maps)
    return Template(grey_map, white_map, brain_map, ventricle_map, _crop(*slope), step_mm)


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix for (z, y, x) vectors from three angles in radians, one about each axis."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (k for k in range(3) if k != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def draw_shape(generator: np.random.Generator, spacing_mm: float, variation: Variation | None = None) -> Shape:
    """Draw a brain's size, pose, large and small deformation and ventricle size.

    Parameters
    ----------
    generator : numpy.random.Generator
    spacing_mm : float
        Voxel size of the subject.
    variation : Variation, optional
        Further deformation and asymmetry; its size of the ventricles replaces the one drawn here.
    """
    template = load_template(max(1, int(spacing_mm)))
    scale = _MEAN_SCALE * np.exp(generator.normal(0, 0.03) + generator.normal(0, 0.02, 3))
    angles = np.radians(generator.normal(0, [2.0, 2.5, 4.0]))  # the last, about the left-right axis, varies most
    shift = generator.normal(0, 2.0, 3)
    ventricle_mm = generator.uniform(-2.0, 12.0)
    # control point distance (mm) and standard deviation (mm) of the deformation, from overall shape to gyri
    levels = [(60.0, generator.uniform(2.0, 4.0)), (26.0, generator.uniform(1.2, 2.4)), (11.0, 1.0)]

    centre = _VOLUME_CENTRE_MM + shift
    half = _TEMPLATE_HALF_MM * scale + (10.0 if variation is None else 10.0 + variation.MARGIN_MM)
    whole = Grid.whole(spacing_mm)
    start = np.maximum(np.floor((centre - half) / spacing_mm).astype(int), 0)
    stop = np.minimum(np.ceil((centre + half) / spacing_mm).astype(int), whole.shape)
    grid = Grid(spacing_mm, (*map(int, start),), (*map(int, stop),))  # type: ignore[arg-type]

    axes = grid.axes_mm()
    matrix = rotation(angles) / scale
    coordinates = np.empty((3, *grid.shape))
    for row in range(3):
        coordinates[row] = _TEMPLATE_CENTRE_MM[row]
        for column in range(3):
            coordinates[row] += matrix[row, column] * (axes[column] - centre[column])
        for distance_mm, amplitude_mm in levels:
            coordinates[row] += amplitude_mm * smooth_noise(generator, grid, distance_mm)
    if variation is not None:
        variation.bend(coordinates, grid)
    near = template.reaches(template.towards_ventricle[0], coordinates)
    points = coordinates[:, near]
    push_mm = ventricle_mm if variation is None else variation.ventricle_push_mm(points)
    for row, slope in enumerate(template.towards_ventricle):
        coordinates[row][near] += push_mm * template.sample(slope, points)
    parameters = {
        "scale": scale.tolist(),
        "angles_degrees": np.degrees(angles).tolist(),
        "shift_mm": shift.tolist(),
        "ventricle_mm": ventricle_mm,
        "deformation": [list(level) for level in levels],
    }
    if variation is not None:
        parameters["variation"] = variation.to_dict()
    return Shape(grid, coordinates, template, parameters)


def render_anatomy(
    generator: np.random.Generator,
    shape: Shape,
    push_mm: np.ndarray | None = None,
    atrophy_range: tuple[float, float] = (0.5, 1.5),
    variation: Variation | None = None,
) -> Anatomy:
    """Sample the template's tissue maps for one subject.

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : Shape
    push_mm : ndarray of float64, shape (3, D, H, W), optional
        Displacement of tissue by a growing mass, in mm.
    atrophy_range : tuple of float
        Between which preferences for CSF to draw; 0.5 leaves the template's mean width of the sulci.
    variation : Variation, optional
        Further atrophy, and deep nuclei.

    Notes
    -----
    The average brain is blurred where people differ. Raising the shares to a power above 1 and adding a random
    preference for CSF brings back crisp gyri and sulci of individual width (atrophy).
    """
    sharpness = generator.uniform(1.3, 2.2)
    atrophy = generator.uniform(*atrophy_range)
    template, grid = shape.template, shape.grid
    coordinates = shape.coordinates_mm if push_mm is None else shape.coordinates_mm - push_mm
    brain_share = template.sample(template.brain, coordinates)
    edge = generator.uniform(0.45, 0.85)
    brain = brain_share > edge + 0.1 * np.tanh(smooth_noise(generator, grid, 20.0))
    points = coordinates[:, brain]
    grey, white, ventricle = (
        template.sample(image, points) for image in (template.grey, template.white, template.ventricle)
    )
    csf = np.clip(brain_share[brain] - grey - white, 0, 1)
    if variation is not None:
        atrophy += variation.atrophy
        variation.add_nuclei(points, csf, grey, white)
    width = np.exp(atrophy - 0.5 + 0.4 * smooth_noise(generator, grid, 14.0)[brain])
    grey, white, csf = (np.maximum(share, 0) ** sharpness for share in (grey, white, csf))
    csf = csf * width + 1e-6
    total = csf + grey + white

    def spread(values: np.ndarray) -> np.ndarray:
        image = np.zeros(grid.shape)
        image[brain] = values
        return image

    return Anatomy(
        grid=grid,
        csf=spread(csf / total),
        grey=spread(grey / total),
        white=spread(white / total),
        ventricle=spread(ventricle),
        brain=brain,
        coordinates_mm=coordinates,
        parameters={**shape.parameters, "sharpness": sharpness, "atrophy": atrophy, "brain_edge": edge},
    )
