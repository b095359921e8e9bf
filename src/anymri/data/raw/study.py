"""A raw study from the scanner's grids to aligned brains on one upright grid, and results back to every grid.

Every step sees the sequences that were handed in and nothing else; without a sequence the others go the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.lattice import Lattice, brain_box
from anymri.data.nifti import Volume
from anymri.data.raw import brain, registration, verdict
from anymri.data.raw.bias import correct_bias
from anymri.data.raw.grids import Matrix, covered, sample, upright_grid, world_box
from anymri.data.raw.intensity import NORMALISATIONS, normalise
from anymri.data.raw.orientation import register_any_way_up
from anymri.data.raw.stripped import SKULL_SHARE, skull_share
from anymri.data.raw.tools import PROGRAMS, external_brain_mask, find_brain_tool
from anymri.data.same_image import refuse_same
from anymri.modalities import MODALITIES
from anymri.types import UserError

__all__ = ["PREFERENCE", "STEPS", "RawOptions", "RawStudy", "choose_reference", "prepare_raw"]

#: Steps that can be left out.
STEPS = ("bias", "coregistration", "template")
#: Sequences that the others are aligned to, best first: the finest of the first kind present.
PREFERENCE = ("t1", "mprage", "t1c", "flair", "t2", "pd")
#: Voxel size of the aligned study, in mm.
SPACING_MM = 1.0
#: Box of the aligned study in the average brain's space, RAS+ corners in mm; it holds any brain with room to spare.
BOX_MM = ((-90.0, -126.0, -90.0), (90.0, 92.0, 96.0))


@dataclass(frozen=True, kw_only=True)
class RawOptions:
    """Options for preparing a raw study.

    Parameters
    ----------
    skip : tuple of str, default=()
        Of `STEPS`: no bias correction; trust the scanner's positions; keep the scanner's axes (the brain mask still
        registers to the average brain).
    brain_mask : str, default="auto"
        ``"template"``, ``"hd-bet"``, ``"synthstrip"``, ``"auto"`` (the first of the other programs that is installed,
        else ``"template"``), ``"none"`` (brains already), or the path of a mask on the reference's grid.
    normalise : {"zscore", "percentile", "histogram"}, default="zscore"
        See `anymri.data.raw.intensity`.
    spacing_mm : float, default=1.0
        Of the aligned study.
    """

    skip: tuple[str, ...] = ()
    brain_mask: str = "auto"
    normalise: str = "zscore"
    spacing_mm: float = SPACING_MM

    def __post_init__(self) -> None:
        for step in self.skip:
            if step not in STEPS:
                raise UserError(f"--skip {step}: no such step; choose of {', '.join(STEPS)}")
        if self.normalise not in NORMALISATIONS:
            raise UserError(f"--normalise {self.normalise}: unknown; choose {', '.join(NORMALISATIONS)}")


@dataclass(frozen=True, kw_only=True)
class RawStudy:
    """A prepared study.

    Parameters
    ----------
    images : dict of str to Volume
        Brains on `grid`, 0 outside the brain and where a sequence does not reach.
    heads : dict of str to float32 array, shape (D, H, W)
        The same with skull, for pictures.
    brain_mask : bool array, shape (D, H, W)
        On `grid`.
    grid : Geometry
        Upright, isotropic.
    native : dict of str to Geometry
        The scanner's grid of each sequence.
    grid_to_native : dict of str to ndarray, shape (4, 4)
        World position on `grid` to world position of each sequence, in mm.
    reference : str
    mni_to_reference : ndarray, shape (4, 4), or None
        None where nothing was registered to the average brain.
    provenance : dict
        What was done, with figures; nothing of the person.
    notes : tuple of str
        Doubts about the preparation, a plain sentence each, for warnings.
    """

    images: dict[str, Volume]
    heads: dict[str, NDArray[np.float32]]
    brain_mask: NDArray[np.bool_]
    grid: Geometry
    native: dict[str, Geometry]
    grid_to_native: dict[str, Matrix]
    reference: str
    mni_to_reference: Matrix | None
    provenance: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()

    def to_native(self, values: NDArray[np.float32], code: str, *, outside: float = 0.0) -> NDArray[np.float32]:
        """Values on `grid`, shape (..., D, H, W), at the voxels of a sequence's own grid, linearly interpolated."""
        matrix = np.linalg.inv(self.grid_to_native[code])
        target = self.native[code]
        flat = np.asarray(values, np.float32).reshape(-1, *values.shape[-3:])
        back = [sample(part, self.grid, target, matrix, smooth=False, outside=outside) for part in flat]
        return np.stack(back).reshape(*values.shape[:-3], *target.shape_dhw)

    def label_to_native(self, label: NDArray[Any], code: str) -> NDArray[Any]:
        """Label map on `grid` brought to a sequence's own grid: at each voxel the label with the largest share."""
        return _move_label(label, lambda part: self.to_native(part, code))

    def label_from_native(self, label: NDArray[Any], code: str) -> NDArray[Any]:
        """Label map on a sequence's own grid brought to `grid`."""
        native, matrix = self.native[code], self.grid_to_native[code]
        return _move_label(label, lambda part: sample(part, native, self.grid, matrix, smooth=False))


def _without_empty_layers(volume: Volume) -> Volume:
    """The box of a volume outside which all is 0, so that layers added around a head change nothing of what follows."""
    start, stop = brain_box(volume.array != 0)
    if not stop.all():
        return volume
    array = volume.array[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))]
    own = Lattice(anchor=(float(start[0]), float(start[1]), float(start[2])))
    return volume._replace(array=array, geometry=own.grid(volume.geometry, array.shape))


def _move_label(label: NDArray[Any], move: Any) -> NDArray[Any]:
    values = np.unique(label)
    best, share = None, None
    for value in values:
        moved = move((label == value).astype(np.float32))
        if best is None or share is None:
            best, share = np.where(moved > 0, value, 0), moved
        else:
            best, share = np.where(moved > share, value, best), np.maximum(moved, share)
    return np.zeros(0, label.dtype) if best is None else best.astype(label.dtype)


def choose_reference(geometries: Mapping[str, Geometry]) -> str:
    """Sequence that the others are aligned to: the first of `PREFERENCE` that is there, else the finest.

    Parameters
    ----------
    geometries : mapping of str to Geometry
        Of the sequences at hand; no other is asked for.
    """
    for code in PREFERENCE:
        if code in geometries:
            return code
    return min(geometries, key=lambda code: (float(np.prod(geometries[code].spacing_mm)), code))


def prepare_raw(volumes: Mapping[str, Volume], options: RawOptions | None = None) -> RawStudy:
    """Align the sequences of one raw study, find the brain and bring all to one grid.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to image as it came from the scanner, each on its own grid.
    options : RawOptions or None, default=None

    Returns
    -------
    RawStudy

    Raises
    ------
    UserError
        If there is no image, one was given twice or holds no head, no brain is found, or an option cannot be met.
    """
    options = options or RawOptions()
    if not volumes:
        raise UserError("study: no sequence was given; name at least one image")
    refuse_same(volumes)
    given = volumes
    volumes = {code: _without_empty_layers(volume) for code, volume in volumes.items()}
    native = {code: replace(volume.geometry, header=None) for code, volume in volumes.items()}
    reference = choose_reference(native)
    name = MODALITIES[reference].long_name
    # Cut to the box of the head, an image hides where the skull ends, and a slab with skull passes for a brain.
    tool, notes = _choose_tool(given, reference, options)
    arrays, bias = _correct(volumes, skip="bias" in options.skip)
    small = {code: registration.working(arrays[code], native[code]) for code in volumes}
    register = "template" not in options.skip or tool == "template"
    for code in volumes if register else ():
        verdict.check_head(volumes[code], small[code])
    to_reference, rigid = _coregister(small, reference, skip="coregistration" in options.skip)
    mni: Matrix | None = None
    affine_facts: dict[str, Any] = {}
    if register:
        mni, affine_facts = register_any_way_up(small[reference])
        notes += verdict.judge_template(volumes[reference], name, affine_facts)
    grid, grid_to_reference = _choose_grid(native[reference], mni, options)
    grid_to_native: dict[str, Matrix] = {code: to_reference[code] @ grid_to_reference for code in volumes}
    mask, mask_facts = _brain_mask(volumes, arrays, given[reference], reference, mni, grid, grid_to_reference, tool)
    if register or tool != "none":
        found, figures = verdict.judge_mask(volumes[reference], name, mask, grid, grid_to_reference, mni)
        notes, mask_facts = [*notes, *found], {**mask_facts, **figures}
    on_reference = verdict.brain_on(small[reference], mask, grid, grid_to_reference)
    notes += verdict.judge_coregistration(small, reference, to_reference, rigid, on_reference)
    notes += verdict.judge_slices(native)
    heads = {code: sample(arrays[code], native[code], grid, grid_to_native[code]) for code in volumes}
    images, intensity = {}, {}
    for code, volume in volumes.items():
        inside = _inside(volume, mask, covered(native[code], grid, grid_to_native[code]))
        values, intensity[code] = normalise(heads[code], inside, code, options.normalise)
        images[code] = Volume(values, grid, volume.source)
    brain_ml = float(mask.sum()) * float(np.prod(grid.spacing_mm)) / 1000
    return RawStudy(
        images=images,
        heads=heads,
        brain_mask=mask,
        grid=grid,
        native={code: volume.geometry for code, volume in given.items()},
        grid_to_native=grid_to_native,
        reference=reference,
        mni_to_reference=mni,
        provenance={
            "sequences": _describe_sequences(native, bias, rigid, intensity),
            "reference": reference,
            "template": affine_facts or "not registered",
            "brain_mask": {**mask_facts, "brain_ml": round(brain_ml, 1)},
            "grid": {"shape": list(grid.shape), "spacing_mm": options.spacing_mm, "affine": grid.affine.tolist()},
            "skipped": list(options.skip),
            "matrices": _describe_matrices(grid_to_native, mni),
        },
        notes=tuple(notes),
    )


def _inside(
    volume: Volume, brain: np.ndarray[Any, Any], covered_by_image: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Voxels of the brain that an image covers.

    Raises
    ------
    UserError
        If there is none.
    """
    inside = brain & covered_by_image
    if not inside.any():
        raise UserError(f"{volume.source}: no brain was found in it; check the image, or give a mask of your own")
    return inside


def _choose_tool(volumes: Mapping[str, Volume], reference: str, options: RawOptions) -> tuple[str, list[str]]:
    """What makes the brain mask; nothing is stripped a second time."""
    stripped = verdict.stripped_sequences(volumes)
    names = ", ".join(MODALITIES[code].long_name for code in stripped)
    tool = find_brain_tool(options.brain_mask)
    if tool == "none" and reference not in stripped:
        share = skull_share(volumes[reference].array, volumes[reference].geometry)
        if share > SKULL_SHARE:
            raise UserError(
                f"{volumes[reference].source}: shows a skull in {share:.0%} of the directions from its middle; it is "
                "no brain yet, so leave out --brain-mask none"
            )
    if not stripped or tool == "none":
        return tool, []
    if options.brain_mask == "auto" and reference in stripped:
        note = "what is not 0 is taken as the brain, and no skull is looked for."
        return "none", [f"{names}: stripped already, though given as raw; {note}"]
    return tool, [f"{names}: stripped already, though given as raw; the brain mask cuts it a second time."]


def _describe_sequences(
    native: Mapping[str, Geometry],
    bias: Mapping[str, float | None],
    rigid: Mapping[str, Any],
    intensity: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        code: {
            "shape": list(geometry.shape),
            "spacing_mm": [round(size, 4) for size in geometry.spacing_mm],
            "orientation": geometry.orientation,
            "bias_field_log_std": bias[code],
            "to_reference": rigid.get(code, "reference"),
            "intensity": intensity[code],
        }
        for code, geometry in native.items()
    }


def _describe_matrices(grid_to_native: Mapping[str, Matrix], mni: Matrix | None) -> dict[str, Any]:
    return {
        "meaning": "4x4, RAS+ world mm: where a point of the aligned grid (or of MNI) lies in the sequence",
        "grid_to_native": {code: matrix.tolist() for code, matrix in grid_to_native.items()},
        "mni_to_reference": None if mni is None else mni.tolist(),
    }


def _correct(
    volumes: Mapping[str, Volume], *, skip: bool
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float | None]]:
    arrays: dict[str, NDArray[np.float32]] = {}
    strength: dict[str, float | None] = {}
    for code, volume in volumes.items():
        if skip:
            arrays[code], strength[code] = volume.array, None
            continue
        arrays[code], value = correct_bias(volume.array, volume.geometry)
        strength[code] = round(value, 4)
    return arrays, strength


def _coregister(
    small: Mapping[str, registration.Working], reference: str, *, skip: bool
) -> tuple[dict[str, Matrix], dict[str, Any]]:
    """World position of the reference to that of each sequence."""
    matrices: dict[str, Matrix] = {}
    facts: dict[str, Any] = {}
    for code, image in small.items():
        matrices[code] = np.eye(4)
        if code == reference:
            continue
        if skip:
            facts[code] = "scanner's positions"
            continue
        matrices[code], facts[code] = registration.register_rigid(small[reference], image)
    return matrices, facts


def _choose_grid(reference: Geometry, mni: Matrix | None, options: RawOptions) -> tuple[Geometry, Matrix]:
    """Upright grid: that of the average brain, turned and shifted but never scaled; or along the scanner's axes."""
    if mni is None or "template" in options.skip:
        low, high = world_box(reference)
        return upright_grid(low, high, options.spacing_mm), np.eye(4)
    return upright_grid(*BOX_MM, options.spacing_mm), registration.rigid_part(mni)


def _brain_mask(
    volumes: Mapping[str, Volume],
    arrays: Mapping[str, NDArray[np.float32]],
    given: Volume,
    reference: str,
    mni: Matrix | None,
    grid: Geometry,
    grid_to_reference: Matrix,
    tool: str,
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Mask on the grid of the study, and what was done."""
    native = volumes[reference].geometry
    if tool == "none":
        whole = sample((volumes[reference].array != 0).astype(np.float32), native, grid, grid_to_reference)
        return whole >= 0.5, {"method": "none: what is not 0 is brain"}
    if tool == "template":
        assert mni is not None
        low, high = world_box(grid)
        frame = upright_grid(low, high, brain.STEP_MM)
        estimate = brain.estimate_brain(arrays[reference], native, mni, frame, grid_to_reference)
        mask = sample(estimate.probability, frame, grid, smooth=False) > 0.5
        means = {name: round(value, 2) for name, value in estimate.tissue_means.items()}
        return mask, {"method": "template", "of": reference, "tissue_means": means}
    # A mask of the user's own lies on the grid of the file, with its empty layers.
    image = Volume(arrays[reference], native, given.source) if tool in PROGRAMS else given
    found = external_brain_mask(tool, image).astype(np.float32)
    mask = sample(found, image.geometry, grid, grid_to_reference, smooth=False) >= 0.5
    method = tool if tool in ("hd-bet", "synthstrip") else "file"
    return mask, {"method": method, "of": reference}
