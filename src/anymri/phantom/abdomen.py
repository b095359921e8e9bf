"""A second, simple anatomy: an abdomen with liver, spleen, kidneys, fat, muscle, spine, and air outside.

References
----------
.. [1] ICRP Publication 89, Basic anatomical and physiological data for use in radiological protection: reference
   values, 2002: adult man and woman, liver 1800 and 1400 g, both kidneys 310 and 275 g, spleen 150 and 130 g.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from anymri.errors import UserError
from anymri.phantom.artifacts.acquisition import rician_noise
from anymri.phantom.contrast.images import tissue_signal
from anymri.phantom.contrast.protocol import draw_further_protocol
from anymri.phantom.contrast.tissues import TISSUES, draw_body
from anymri.phantom.subject import whole_number

__all__ = ["ABDOMEN_LAYOUTS", "ABDOMEN_SEQUENCES", "draw_abdomen", "generate_abdomens", "make_abdomen"]

ABDOMEN_SEQUENCES = ("t1_in", "t1_out", "t2_spir")
ABDOMEN_LAYOUTS = ("chaos", "duke_liver")
#: Size of the imaged volume (D, H, W) and the body's half axes (H, W), in mm.
_FIELD_MM = (220.0, 260.0, 380.0)
_BODY_MM = (110.0, 160.0)
#: Middle and half axes (D, H, W) in mm from the lower, back, left corner; what comes first displaces what follows.
_ORGANS = (
    ("right_kidney", "kidney", (90, 85, 245), (55, 28, 26)),
    ("left_kidney", "kidney", (100, 85, 135), (55, 28, 26)),
    ("spine", "spine", (110, 70, 190), (1e4, 22, 24)),
    ("canal", "csf", (110, 40, 190), (1e4, 7, 9)),
    ("aorta", "blood", (110, 102, 180), (1e4, 9, 9)),
    ("spleen", "spleen", (150, 95, 85), (50, 30, 26)),
    ("liver", "liver", (135, 150, 262), (70, 72, 68)),
    ("liver", "liver", (150, 178, 195), (32, 26, 50)),
    ("back", "muscle", (110, 48, 150), (1e4, 22, 28)),
    ("back", "muscle", (110, 48, 230), (1e4, 22, 28)),
)
_LABELS = {"liver": 1, "right_kidney": 2, "left_kidney": 3, "spleen": 4}
#: Marrow: what a voxel of the spine consists of; the rest is bone without signal.
_SPINE = {"fat": 0.4, "muscle": 0.4}


def _check_spacing(spacing_mm: float) -> None:
    if not 1 <= spacing_mm <= 8:
        raise UserError(f"phantom: spacing {spacing_mm} mm is not possible; choose 1 to 8 mm for an abdomen")


def _stream(seed: int, index: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 5, *name.encode()])))


def draw_abdomen(seed: int, index: int, spacing_mm: float) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Draw one abdomen.

    Parameters
    ----------
    seed, index : int
    spacing_mm : float
        Isotropic voxel size, 1 to 8.

    Returns
    -------
    shares : dict of str to ndarray of float64, shape (D, H, W)
        By tissue; their sum is at most 1, less where bone or air gives no signal.
    label : ndarray of uint8, shape (D, H, W)
        1 liver, 2 right kidney, 3 left kidney, 4 spleen.
    parameters : dict
        What was drawn.

    Raises
    ------
    UserError
        If the voxel size is out of range.

    Notes
    -----
    Ellipsoids and tubes, each sized and shifted anew and bent together by a smooth deformation; bowel is an uneven
    mixture of muscle and fat. The shapes are ours, the sizes near [1]_. No vessels but the aorta, no ribs, no stomach.
    """
    _check_spacing(spacing_mm)
    generator = _stream(seed, index, "anatomy")
    shape = tuple(round(size / spacing_mm) for size in _FIELD_MM)
    place = np.stack(np.meshgrid(*((np.arange(size) + 0.5) * spacing_mm for size in shape), indexing="ij"))
    for row in place:
        bend = ndimage.zoom(generator.normal(size=(6, 7, 10)), np.array(shape) / (6, 7, 10), order=3)
        row += 3.0 * bend[: shape[0], : shape[1], : shape[2]]
    size = float(np.exp(generator.normal(0, 0.04)))
    radius = np.sqrt(((place[1] - 130) / _BODY_MM[0] / size) ** 2 + ((place[2] - 190) / _BODY_MM[1] / size) ** 2)

    def inside(distance: np.ndarray, radius_mm: float) -> np.ndarray:
        return np.clip((1 - distance) * radius_mm / spacing_mm + 0.5, 0, 1)

    free = inside(radius / float(generator.uniform(0.86, 0.92)), 100.0)  # within the fat below the skin
    shares = {"fat": inside(radius, 100.0) - free}
    cavity = np.minimum(free, inside(radius / 0.82, 100.0))
    label = np.zeros(shape, np.uint8)
    parameters: dict = {"size": size}
    for number, (name, tissue, middle, half) in enumerate(_ORGANS):
        own, shift = size * np.exp(generator.normal(0, 0.06)), generator.normal(0, 3.0, 3)
        parameters[f"{number}_{name}"] = [float(own), *shift.tolist()]
        axes = zip(place, middle, half, shift, strict=True)
        distance = np.sqrt(sum(((row - at - move) / (length * own)) ** 2 for row, at, length, move in axes))
        share = np.minimum(free, inside(distance, min(half) * own))
        free = free - share
        for part, weight in _SPINE.items() if tissue == "spine" else ((tissue, 1.0),):
            shares[part] = shares.get(part, 0.0) + weight * share
        label[(share > 0.5) & (label == 0)] = _LABELS.get(name, 0)
    bowel = np.clip(ndimage.gaussian_filter(generator.normal(size=shape), 8 / spacing_mm), 0, None)
    bowel = np.minimum(free, cavity) * np.clip(bowel / max(bowel.std(), 1e-9), 0, 1)
    wall = np.clip(free - cavity, 0, None)
    shares["muscle"] = shares["muscle"] + bowel + wall
    shares["fat"] = shares["fat"] + free - bowel - wall
    return shares, label, parameters


def make_abdomen(seed: int, index: int, spacing_mm: float = 3.0) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Images in and out of phase and T2-SPIR of one abdomen, whole numbers; its label map; what was drawn.

    Parameters
    ----------
    seed, index : int
    spacing_mm : float
        Isotropic voxel size, 1 to 8.
    """
    shares, label, anatomy = draw_abdomen(seed, index, spacing_mm)
    generator = _stream(seed, index, "tissues")
    field_t = (1.5, 3.0)[int(generator.integers(2))]
    tissues = {**TISSUES[field_t], **draw_body(generator, field_t)}
    images, protocols = {}, {}
    for code in ABDOMEN_SEQUENCES:
        name = "t1_dual" if code in ("t1_in", "t1_out") else code
        protocol = draw_further_protocol(_stream(seed, index, f"{name} protocol"), code, field_t)
        signal = sum(
            tissue_signal(tissue, tissues[tissue], protocol, field_t=field_t) * share
            for tissue, share in shares.items()
        )
        ideal = ndimage.gaussian_filter(np.abs(signal), 0.5)
        noise = _stream(seed, index, f"{code} noise")
        level = float(ideal[label > 0].mean())
        image = rician_noise(noise, ideal / level, float(noise.uniform(0.01, 0.05))) * noise.uniform(150, 900)
        images[code] = np.clip(np.rint(image), 0, 32767).astype(np.float32)
        protocols[code] = protocol.to_dict()
    return images, label, {"anatomy": anatomy, "field_t": field_t, "protocols": protocols}


def generate_abdomens(
    out: Path | str,
    subjects: int,
    seed: int,
    spacing_mm: float = 3.0,
    *,
    layout: str = "chaos",
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Write abdomens in the layout of a real data set, with ``provenance/<patient>.json`` of everything drawn.

    Parameters
    ----------
    out : path-like
        Folder of the data set.
    subjects : int
    seed : int
        The same seed gives the same bytes, whatever the number of workers.
    spacing_mm : float, default=3.0
        Isotropic voxel size, 1 to 8.
    layout : {"chaos", "duke_liver"}, default="chaos"
        ``chaos``: two studies per patient, T1-DUAL and T2-SPIR. ``duke_liver``: the T1 images in and out of phase, a
        series each, and the liver alone as a label.
    workers : int, default=1
        Processes.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If an argument is out of range or the folder cannot be written.
    """
    from anymri.files import make_folder
    from anymri.locks import one_writer
    from anymri.phantom.dataset import refuse_others, run_all

    out, subjects, seed = Path(out), whole_number("subjects", subjects, 1), whole_number("seed", seed, 0)
    if layout not in ABDOMEN_LAYOUTS:
        names = " or ".join(ABDOMEN_LAYOUTS)
        raise UserError(f"phantom: the layout {layout} has no place for an abdomen; choose {names}")
    _check_spacing(spacing_mm)
    workers = whole_number("workers", workers, 1)
    settings = {"seed": seed, "spacing_mm": spacing_mm, "layout": layout}
    with one_writer(out):
        refuse_others(out, lambda name, record: settings.items() <= record.items())
        make_folder(make_folder(out) / "provenance")
        make = partial(_write_abdomen, out=out, seed=seed, spacing_mm=spacing_mm, layout=layout)
        # Duke Liver keeps one table of all patients, which several processes must not write at once.
        run_all(make, list(range(subjects)), 1 if layout == "duke_liver" else min(workers, subjects), progress)
    return out


def _write_abdomen(index: int, out: Path, seed: int, spacing_mm: float, layout: str) -> tuple[int, str]:
    """Make and write one patient; returns its index and a checksum of its voxels."""
    from anymri.data.datasets import get_dataset
    from anymri.files import RefusedWrite, replace_file, write_reason, write_remedy

    images, label, parameters = make_abdomen(seed, index, spacing_mm)
    digest = hashlib.sha256()
    for array in (*images.values(), label):
        digest.update(np.ascontiguousarray(array).data)
    voxel = (spacing_mm,) * 3
    if layout == "chaos":
        studies = [("T1DUAL", ("t1_in", "t1_out")), ("T2SPIR", ("t2_spir",))]
        labelled = label
    else:
        studies = [("1", ("t1_in",)), ("2", ("t1_out",))]
        labelled = (label == _LABELS["liver"]).astype(np.uint8)
    patient = str(index + 1) if layout == "chaos" else f"{index + 1:04d}"
    record = {"seed": seed, "index": index, "spacing_mm": spacing_mm, "layout": layout, **parameters}
    try:
        for name, codes in studies:
            study = {code: images[code] for code in codes}
            get_dataset(layout).write(out, f"{patient}-{name}", study, labelled, voxel)
        with replace_file(out / "provenance" / f"{patient}.json") as handle:
            content = {**record, "sha256": digest.hexdigest()}
            handle.write((json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    except (OSError, RefusedWrite) as error:
        raise UserError(f"{out}: cannot write {patient} ({write_reason(error)}); {write_remedy(error)}") from None
    return index, digest.hexdigest()
