"""One phantom subject in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from anymri.errors import UserError
from anymri.phantom.anatomy import Anatomy, draw_shape, render_anatomy
from anymri.phantom.artifacts import (
    ARTIFACTS,
    Scan,
    artifact_stream,
    check_strengths,
    cut_back,
    draw_shell,
    impose_artifacts,
    put_in_head,
    show_head,
    strengths_for,
)
from anymri.phantom.artifacts.acquisition import Artifacts, apply_artifacts, draw_artifacts, draw_texture
from anymri.phantom.artifacts.field import find_cavities
from anymri.phantom.artifacts.head import Shell
from anymri.phantom.artifacts.scanner import ACQUISITION_OF, Scanner, as_scanned, draw_acquisition, draw_scanner
from anymri.phantom.contrast import ideal_images
from anymri.phantom.pathology import PATHOLOGY_TABLE, Tissue
from anymri.phantom.settings import MAPS, MODALITIES, Grid, PhantomSettings
from anymri.phantom.variation import Variation, draw_variation

__all__ = ["PhantomSubject", "checksum", "make_subject", "subject_id", "whole_number"]


@dataclass(frozen=True)
class PhantomSubject:
    """One phantom study.

    Parameters
    ----------
    subject_id : str
    images : dict of str to ndarray of float32, shape (D, H, W)
        Raw intensities by modality code: whole numbers from 1 to 32767 in the brain, 0 outside. Maps in the units of
        `anymri.phantom.settings.MAPS`.
    label : ndarray of uint8, shape (D, H, W)
        0 background, else the values of the pathology's labels.
    spacing_mm : float
        Isotropic voxel size.
    parameters : dict
        Everything that was drawn.
    """

    subject_id: str
    images: dict[str, np.ndarray]
    label: np.ndarray
    spacing_mm: float
    parameters: dict


def subject_id(index: int) -> str:
    """Name of the phantom subject of an index, e.g. ``BraTS-GLI-00001-000``."""
    return f"BraTS-GLI-{index:05d}-000"


def whole_number(name: str, value: int, lowest: int) -> int:
    """A whole number of at least `lowest`, or a `UserError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise UserError(f"phantom: {name} is {value!r}; choose a whole number of {lowest} or more")
    return int(value)


def _make_tissue(
    streams: list[np.random.Generator], settings: PhantomSettings, variation: Variation | None
) -> tuple[Tissue, Anatomy, dict]:
    """Tissue and anatomy of a subject, with their drawn parameters."""
    anatomy_stream, pathology_stream = streams
    shape = draw_shape(anatomy_stream, settings.spacing_mm, variation)
    atrophy = (0.3, 2.3) if settings.contrast == "random" else (0.5, 1.5)
    pathology = PATHOLOGY_TABLE[settings.pathology]
    plan = pathology.plan(pathology_stream, shape, settings)
    anatomy = render_anatomy(anatomy_stream, shape, plan.push_mm if plan is not None else None, atrophy, variation)
    del shape  # its coordinates are large, and those of the anatomy hold from here on
    tissue = pathology.grow(pathology_stream, plan, anatomy, settings)
    return tissue, anatomy, {"anatomy": anatomy.parameters, "pathology": tissue.parameters}


def _sequence_stream(seed: int, index: int, name: str) -> np.random.Generator:
    """A random stream of its own for one thing of one sequence: no other draw depends on it."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 3, *name.encode()])))


def _sequences_to_make(modalities: tuple[str, ...]) -> tuple[str, ...]:
    """Sequences to make for a study: T1, T1c, T2, FLAIR share a stream, so that those before the last are made too."""
    count = max((MODALITIES.index(code) + 1 for code in modalities if code in MODALITIES), default=0)
    return (*MODALITIES[:count], *(code for code in modalities if code not in MODALITIES))


@dataclass(frozen=True)
class _Scanning:
    """What the images of one subject have in common while they are scanned."""

    tissue: Tissue
    texture: np.ndarray
    common: np.random.Generator
    stream: Callable[[str], np.random.Generator]
    settings: PhantomSettings
    scanner: Scanner

    def scan(self, code: str, ideal: np.ndarray) -> tuple[np.ndarray, Artifacts, float]:
        """Image with mean brain signal 1, how it was acquired, and whole numbers for a signal of 1."""
        contrast = self.settings.contrast
        generator = self.common if code in MODALITIES else self.stream(f"{code} noise")
        if code in MODALITIES:
            acquired = draw_artifacts(generator, code, contrast)
            if self.settings.scanner == "varied":
                acquired = as_scanned(self.stream(f"{code} scanner"), acquired, code, self.scanner)
        else:
            name = f"{ACQUISITION_OF.get(code, code)} acquisition"
            acquired = draw_acquisition(self.stream(name), code, contrast, self.scanner)
        if code in MAPS:
            mean = float(ideal[self.tissue.brain].mean()) * MAPS[code]
        else:
            mean = float(generator.uniform(150, 900))
        csf = self.tissue.shares["csf"]
        brain, grid = self.tissue.brain, self.tissue.grid
        return apply_artifacts(generator, ideal, brain, csf, self.texture, acquired, grid), acquired, mean


def _spoil(
    scan: Scan, code: str, shell: Shell | None, settings: PhantomSettings, stream: Callable[[str], np.random.Generator]
) -> tuple[Scan, dict[str, dict]]:
    """Impose the artifacts that the settings ask for on one sequence; unchanged if there are none."""
    if shell is None:
        return scan, {}
    strengths = strengths_for(code, settings.artifacts, settings.artifact_rate, stream("which"))
    if not any(strengths.values()):
        return scan, {}
    if settings.skull and code not in MAPS:  # in its head already
        return impose_artifacts(scan, strengths, stream)
    spoiled, record = impose_artifacts(put_in_head(scan, shell, code), strengths, stream)
    return cut_back(spoiled, scan.grid), record


def make_subject(seed: int, index: int, settings: PhantomSettings | None = None) -> PhantomSubject:
    """Make one phantom study in memory; a pure function of its arguments.

    Parameters
    ----------
    seed : int
        Of the data set, 0 or more.
    index : int
        Of the subject, 0 or more.
    settings : PhantomSettings, optional

    Raises
    ------
    UserError
        If seed or index is not a whole number of 0 or more, or the anatomy template is missing.

    Notes
    -----
    Anatomy, pathology, contrast and artifact each have their own random stream, so that a change in one does not
    redraw the others. All sums are in double precision and rounded to whole numbers at the end.
    """
    settings = settings or PhantomSettings()
    check_strengths(settings.artifacts, settings.sequences)
    seed, index = whole_number("seed", seed, 0), whole_number("index", index, 0)
    sequence = np.random.SeedSequence([seed, index])
    streams = [np.random.Generator(np.random.PCG64(child)) for child in sequence.spawn(4)]
    stream = partial(_sequence_stream, seed, index)
    variation = draw_variation(stream("variation")) if settings.anatomy == "varied" else None
    tissue, anatomy, parameters = _make_tissue(streams[:2], settings, variation)
    cavities = find_cavities(anatomy.coordinates_mm, tissue.grid)
    del anatomy  # large; so are all shares, of which the artifacts need one
    codes = _sequences_to_make(settings.sequences)
    ideal, parameters["contrast"] = ideal_images(streams[2], tissue, settings, codes, stream)
    tissue = replace(tissue, shares={"csf": tissue.shares["csf"]})
    texture = draw_texture(streams[3], tissue.grid)
    whole = Grid.whole(settings.spacing_mm)
    shell = None
    if settings.artifacts or settings.artifact_rate or settings.skull:
        shell = draw_shell(artifact_stream(seed, index, "head", "shell"), tissue.brain, tissue.grid)
    scanning = _Scanning(tissue, texture, streams[3], stream, settings, draw_scanner(stream("scanner")))
    images: dict[str, np.ndarray] = {}
    drawn, imposed = {}, {}
    for code in codes:
        image, acquired, mean = scanning.scan(code, ideal.pop(code))
        if code not in settings.sequences:
            continue
        scan = Scan(image, tissue.brain, tissue.grid, acquired.slice_axis, air_mm=cavities)
        in_head = settings.skull and code not in MAPS
        if in_head and shell is not None:
            scan = show_head(stream(f"{code} head"), scan, shell, code, acquired)
        scan, imposed[code] = _spoil(scan, code, shell, settings, partial(artifact_stream, seed, index, code))
        images[code] = np.zeros(whole.shape, np.float32)
        values = np.clip(np.rint(scan.image * mean), 0 if in_head else 1, 32767)
        images[code][scan.grid.slices] = values if in_head else np.where(scan.seen, values, 0)
        drawn[code] = {**acquired.to_dict(), "mean": mean}
    label = np.zeros(whole.shape, np.uint8)
    label[tissue.grid.slices] = tissue.label
    parameters = {"seed": seed, "index": index, "settings": asdict(settings), **parameters, "artifacts": drawn}
    parameters["air_mm"] = {name: [*centre.tolist(), radius] for name, (centre, radius) in cavities.items()}
    parameters["scanner"] = scanning.scanner.kind
    parameters["imposed"] = imposed
    parameters["flags"] = {code: {name: name in record for name in ARTIFACTS} for code, record in imposed.items()}
    return PhantomSubject(subject_id(index), images, label, settings.spacing_mm, parameters)


def checksum(subject: PhantomSubject) -> str:
    """SHA-256 of a subject: images in their order as little-endian int16, then the label as uint8, all (D, H, W)."""
    digest = hashlib.sha256()
    for image in subject.images.values():
        digest.update(np.ascontiguousarray(image, "<i2").tobytes())
    digest.update(np.ascontiguousarray(subject.label, np.uint8).tobytes())
    return digest.hexdigest()
