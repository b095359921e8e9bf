"""Everyday mistakes: every one is refused, warned of, or changes nothing; a study without one gets no warning.

Each row is one mistake made with a phantom study. ``refused`` rows end with exit code 2 and one line, ``warned`` rows
with a sentence in ``result.json`` and on the terminal, ``harmless`` rows with the segmentation of the unaltered study.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run

from anymri.phantom import PhantomSettings, generate

pytest.importorskip("nilearn")
SEQUENCES = ("t1", "t1c", "t2", "flair")


class Mistake(NamedTuple):
    """One row: what is handed over, and the words that have to be said (any one of each group)."""

    name: str
    make: Callable[[Path, Path], list[Any]]
    outcome: str
    words: tuple[str, ...] = ()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantom patients at 3 mm, stripped: ``a`` and ``b``, each with t1, t1c, t2, flair."""
    root = tmp_path_factory.mktemp("cohort")
    settings = PhantomSettings(spacing_mm=3.0, grade="high", et_free_share=0.0, multifocal_share=0.0)
    generate(root / "made", 2, 11, settings, layout="folder", progress=False)
    for name, folder in zip("ab", sorted((root / "made").glob("phantom-*")), strict=True):
        (root / name).mkdir()
        for code in SEQUENCES:
            shutil.copy(folder / f"{code}.nii.gz", root / name)
    return root


# ---------------------------------------------------------------------------------------------------------------
# Small tools
# ---------------------------------------------------------------------------------------------------------------


def load(path: Path) -> tuple[np.ndarray, Any]:
    image = nib.load(path)
    return np.asarray(image.dataobj, np.float32), image


def save(path: Path, values: np.ndarray, like: Any, *, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(values, like.affine if affine is None else affine).to_filename(path)
    return path


def options(**files: Path) -> list[Any]:
    return [part for code, path in files.items() for part in (f"--{code}", path)]


def given(cohort: Path, *codes: str, **others: Path) -> list[Any]:
    """Patient ``a`` with these sequences, some of them replaced."""
    return options(**{code: cohort / "a" / f"{code}.nii.gz" for code in codes} | others)


def changed(code: str, change: Callable[[np.ndarray], np.ndarray], *beside: str) -> Callable[[Path, Path], list[Any]]:
    """Patient ``a`` with one sequence changed in its values."""

    def make(cohort: Path, place: Path) -> list[Any]:
        values, image = load(cohort / "a" / f"{code}.nii.gz")
        return given(cohort, *beside, **{code: save(place / "x.nii.gz", change(values), image)})

    return make


def named(cohort_names: dict[str, str]) -> Callable[[Path, Path], list[Any]]:
    """Patient ``a`` with files under wrong options: option to the file's own sequence."""

    def make(cohort: Path, place: Path) -> list[Any]:
        return options(**{code: cohort / "a" / f"{own}.nii.gz" for code, own in cohort_names.items()})

    return make


def bids(cohort: Path, place: Path, files: dict[str, tuple[str, str]], only: str | None = None) -> list[Any]:
    """A BIDS data set: relative path to patient and sequence."""
    for name, (patient, code) in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cohort / patient / f"{code}.nii.gz", place / name)
    return [place if only is None else place / only]


def folder(cohort: Path, place: Path, files: dict[str, str]) -> list[Any]:
    """A folder with files of patient ``a``: name to sequence."""
    return bids(cohort, place, {name: ("a", code) for name, code in files.items()})


def header_bytes(path: Path, target: Path, *edits: tuple[int, str, Any]) -> Path:
    """An uncompressed copy with header fields replaced: offset, struct format, value."""
    import struct

    values, image = load(path)
    save(target, values.astype(np.int16), image)
    content = bytearray(target.read_bytes())
    for offset, form, value in edits:
        struct.pack_into("<" + form, content, offset, value)
    target.write_bytes(bytes(content))
    return target


def dicom(cohort: Path, place: Path, series: list[dict[str, Any]]) -> list[Any]:
    """A DICOM folder: patient, sequence and header fields of each series."""
    import pydicom

    from anymri.data.formats import write_dicom
    from anymri.data.nifti import read_image

    for number, fields in enumerate(series, start=1):
        fields = dict(fields)
        volume = read_image(cohort / fields.pop("of", "a") / f"{fields.pop('code')}.nii.gz")
        skipped, edit = fields.pop("skip", ()), fields.pop("edit", None)
        target = place / f"{number}"
        write_dicom(target, volume.array.astype(np.int16), volume.geometry, f"{place} {number}")
        for slice_number, file in enumerate(sorted(target.iterdir())):
            if slice_number in skipped:
                file.unlink()
                continue
            header = pydicom.dcmread(file)
            header.PatientID, header.StudyInstanceUID, header.SeriesNumber = "1", "1.2.3", number
            for keyword, value in fields.items():
                setattr(header, keyword, value)
            if edit is not None:
                edit(header, slice_number)
            header.save_as(file)
    return [place, "--skip", "bias,template", "--brain-mask", "none"]


T1 = {"code": "t1", "SeriesDescription": "T1 SE", "RepetitionTime": 500, "EchoTime": 10}
T1C = {"code": "t1c", "SeriesDescription": "T1 SE +C", "RepetitionTime": 500, "EchoTime": 10}
T2 = {"code": "t2", "SeriesDescription": "T2 TSE", "RepetitionTime": 5000, "EchoTime": 100}
FLAIR = {
    "code": "flair", "SeriesDescription": "T2 FLAIR", "RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------
# The mistakes
# ---------------------------------------------------------------------------------------------------------------


def mixed_patients(cohort: Path, place: Path) -> list[Any]:
    return given(cohort, "flair", t2=cohort / "b" / "t2.nii.gz")


def copied(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], list[Any]]:
    """FLAIR given again as T2, changed."""

    def make(cohort: Path, place: Path) -> list[Any]:
        values, image = load(cohort / "a" / "flair.nii.gz")
        return given(cohort, "flair", t2=save(place / "t2.nii.gz", change(values), image))

    return make


def cropped_copy(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    values = values.copy()
    values[:, :, :14] = 0
    return given(cohort, "flair", t2=save(place / "t2.nii.gz", values, image))


def turned_copy(cohort: Path, place: Path) -> list[Any]:
    target = place / "t2.nii.gz"
    nib.save(nib.as_closest_canonical(nib.load(cohort / "a" / "flair.nii.gz")), target)
    flipped = nib.load(target)
    turn = nib.orientations.axcodes2ornt(("L", "A", "S"))
    nib.save(flipped.as_reoriented(turn), target)
    return given(cohort, "flair", t2=target)


def noise(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    drawn = np.random.default_rng(0).gamma(4, 100, values.shape)
    return options(flair=save(place / "flair.nii.gz", np.where(values != 0, drawn, 0).astype(np.float32), image))


def cube(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    drawn = np.random.default_rng(0).normal(500, 50, values.shape)
    inside = np.zeros(values.shape, bool)
    inside[20:60, 20:60, 8:44] = True
    return options(flair=save(place / "flair.nii.gz", np.where(inside, drawn, 0).astype(np.float32), image))


def hounsfield(values: np.ndarray) -> np.ndarray:
    """Grey values of a CT with a window on the brain: white matter 28, grey 37, water 5 HU, noise of 4 HU."""
    inside = values != 0
    low, high = np.percentile(values[inside], [20, 60])
    drawn = np.where(values > high, 28, np.where(values > low, 37, 5)) + np.random.default_rng(0).normal(
        0, 4, values.shape
    )
    return np.where(inside, np.round(drawn) + 0.5, 0).astype(np.float32)


def tissue_map(values: np.ndarray) -> np.ndarray:
    cuts = np.percentile(values[values != 0], [20, 60])
    return np.where(values != 0, 1 + np.digitize(values, cuts), 0).astype(np.float32)


def tiny_brain(values: np.ndarray) -> np.ndarray:
    middle = tuple(size // 2 for size in values.shape)
    small = np.zeros_like(values)
    part = tuple(slice(place - 2, place + 2) for place in middle)
    small[part] = values[part]
    return small


def half(values: np.ndarray) -> np.ndarray:
    kept = values.copy()
    kept[: values.shape[0] // 2] = 0
    return kept


def slab(values: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(values)
    middle = values.shape[2] // 2
    kept[:, :, middle - 4 : middle + 4] = values[:, :, middle - 4 : middle + 4]
    return kept


def thick(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    affine = image.affine.copy()
    affine[:, 2] *= 2
    affine[:3, 3] += image.affine[:3, 2] / 2
    kept = (values[:, :, 0:-1:2] + values[:, :, 1::2]) / 2
    return options(flair=save(place / "flair.nii.gz", kept.astype(np.float32), image, affine=affine))


def other_grid(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "t2.nii.gz")
    return given(cohort, "flair", t2=save(place / "t2.nii.gz", values[:, :, :-4], image))


def head(cohort: Path, place: Path, *, zeroed: bool) -> list[Any]:
    """The FLAIR of a head that nobody stripped."""
    settings = PhantomSettings(spacing_mm=3.0, skull=True)
    generate(place / "made", 1, 3, settings, layout="folder", progress=False)
    values, image = load(next((place / "made").glob("phantom-*/flair.nii.gz")))
    if zeroed:
        values = np.where(values < np.percentile(values, 99.5) * 0.12, 0, values)
    return options(flair=save(place / "flair.nii.gz", values.astype(np.float32), image))


def no_codes(cohort: Path, place: Path) -> list[Any]:
    path = header_bytes(cohort / "a" / "flair.nii.gz", place / "flair.nii", (252, "h", 0), (254, "h", 0))
    return options(flair=path)


def two_forms(cohort: Path, place: Path) -> list[Any]:
    """The qform says 8 mm more to the right than the sform."""
    values, image = load(cohort / "a" / "flair.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 8
    made = nib.Nifti1Image(values.astype(np.int16), image.affine)
    made.set_sform(image.affine, 1)
    made.set_qform(moved, 1)
    made.to_filename(place / "flair.nii.gz")
    return options(flair=place / "flair.nii.gz")


def metres(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    affine = image.affine.copy()
    affine[:3] *= 1e-3
    made = nib.Nifti1Image(values.astype(np.int16), affine)
    made.header["xyzt_units"] = 1
    made.to_filename(place / "flair.nii.gz")
    return options(flair=place / "flair.nii.gz")


def stored_otherwise(cohort: Path, place: Path) -> list[Any]:
    nib.save(nib.as_closest_canonical(nib.load(cohort / "a" / "flair.nii.gz")), place / "flair.nii.gz")
    return given(cohort, "t2", flair=place / "flair.nii.gz")


def nan_outside(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.nan, values).astype(np.float32)


def hot_voxel(values: np.ndarray) -> np.ndarray:
    hot = values.copy()
    hot[tuple(size // 2 for size in values.shape)] = 32767
    return hot


def hot_share(values: np.ndarray) -> np.ndarray:
    inside = np.flatnonzero(values)
    hot = values.copy().ravel()
    hot[np.random.default_rng(0).choice(inside, inside.size // 100, replace=False)] = 32767
    return hot.reshape(values.shape)


def beyond_float(cohort: Path, place: Path) -> list[Any]:
    values, image = load(cohort / "a" / "flair.nii.gz")
    return options(flair=save(place / "flair.nii.gz", values.astype(np.float64) * 1e36, image))


ANAT = "sub-01/anat/sub-01"
NOT_A_SEQUENCE = ("does not look like",)
MISTAKES = [
    # Two patients, two dates, one image twice.
    Mistake(
        "a DICOM folder of two patients",
        lambda c, p: dicom(c, p, [{**T1, "PatientID": "1"}, {**FLAIR, "PatientID": "2", "StudyInstanceUID": "1.2.4"}]),
        "refused", ("2 patients",),
    ),
    Mistake(
        "a DICOM folder of two studies of one patient",
        lambda c, p: dicom(c, p, [T1, {**FLAIR, "StudyInstanceUID": "1.2.4"}]),
        "refused", ("--study",),
    ),
    Mistake(
        "a BIDS data set instead of a study",
        lambda c, p: bids(c, p, {"sub-01/anat/sub-01_FLAIR.nii.gz": ("a", "flair"),
                                 "sub-02/anat/sub-02_T2w.nii.gz": ("b", "t2")}),
        "refused", ("sub-01", "sub-02"),
    ),
    Mistake(
        "a BIDS subject with two sessions",
        lambda c, p: bids(c, p, {"sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz": ("a", "flair"),
                                 "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz": ("b", "t2")}, "sub-01"),
        "refused", ("--session", "ses-1", "ses-2"),
    ),
    Mistake(
        "two runs of one sequence",
        lambda c, p: bids(c, p, {f"{ANAT}_run-1_FLAIR.nii.gz": ("a", "flair"),
                                 f"{ANAT}_run-2_FLAIR.nii.gz": ("a", "t2")}, "sub-01"),
        "warned", ("run-2",),
    ),
    Mistake("stripped images of two patients", mixed_patients, "warned", ("same head",)),
    Mistake("one image given twice", copied(lambda x: x), "refused", ("same image",)),
    Mistake("one image given twice, rescaled", copied(lambda x: x * 0.37), "refused", ("same image",)),
    Mistake(
        "one image given twice, cast",
        copied(lambda x: np.round(255 * x / x.max()).astype(np.uint8)), "refused", ("same image",),
    ),
    Mistake("one image given twice, cropped", cropped_copy, "refused", ("same image",)),
    Mistake("one image given twice, stored in another order", turned_copy, "refused", ("same image",)),
    # The sequence is what its label says.
    Mistake("T1 and T2 swapped", named({"t1": "t2", "t2": "t1"}), "warned", NOT_A_SEQUENCE),
    Mistake("T2 and FLAIR swapped", named({"flair": "t2", "t2": "flair"}), "warned", NOT_A_SEQUENCE),
    Mistake("T2 as FLAIR", named({"flair": "t2"}), "warned", NOT_A_SEQUENCE),
    Mistake("T1 as FLAIR", named({"flair": "t1"}), "warned", NOT_A_SEQUENCE),
    Mistake("FLAIR as T1", named({"t1": "flair"}), "warned", NOT_A_SEQUENCE),
    Mistake("T1 and T1c swapped", named({"t1": "t1c", "t1c": "t1"}), "warned", ("contrast",)),
    Mistake("inverted grey values", changed("t1", lambda x: np.where(x != 0, x.max() + 1 - x, 0)), "warned",
            NOT_A_SEQUENCE),
    Mistake("CT as T1", changed("t1", hounsfield), "warned", NOT_A_SEQUENCE),
    Mistake("noise", noise, "warned", ("no anatomy",)),
    Mistake("a cube", cube, "warned", ("no anatomy",)),
    Mistake("a tissue map", changed("flair", tissue_map), "refused", ("label map",)),
    # Headers and names.
    Mistake(
        "a DICOM description against the times",
        lambda c, p: dicom(c, p, [FLAIR, {**T1, "code": "t1", "SeriesDescription": "T2"}]),
        "warned", ("series 2",),
    ),
    Mistake(
        "phase images in DICOM",
        lambda c, p: dicom(c, p, [FLAIR, {**T2, "ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}]),
        "warned", ("phase",),
    ),
    Mistake(
        "T2* called T2", lambda c, p: dicom(c, p, [FLAIR, {**T2, "SeriesDescription": "AX T2 GRE"}]), "warned",
        ("series 2", "gradient"),
    ),
    Mistake(
        "slices missing in a DICOM series", lambda c, p: dicom(c, p, [FLAIR, {**T2, "skip": (11, 12, 30)}]), "warned",
        ("slices",),
    ),
    Mistake(
        "BIDS phase part",
        lambda c, p: bids(c, p, {f"{ANAT}_FLAIR.nii.gz": ("a", "flair"),
                                 f"{ANAT}_part-phase_T2w.nii.gz": ("a", "t2")}, "sub-01"),
        "warned", ("part-phase",),
    ),
    Mistake(
        "an image whose name says nothing",
        lambda c, p: folder(c, p, {"flair.nii.gz": "flair", "IM_0007.nii.gz": "t2"}), "warned", ("IM_0007.nii.gz",),
    ),
    Mistake(
        "two files of one sequence",
        lambda c, p: folder(c, p, {"x_T2w.nii.gz": "t2", "y_T2w.nii.gz": "flair"}), "refused", ("y_T2w.nii.gz",),
    ),
    Mistake(
        "channels of nnU-Net without their names",
        lambda c, p: folder(c, p, {"case_0000.nii.gz": "flair", "case_0001.nii.gz": "t2"}), "refused", ("_0000",),
    ),
    # Geometry.
    Mistake("another grid", other_grid, "refused", ("t2.nii.gz", "--raw")),
    Mistake("a head without --raw", lambda c, p: head(c, p, zeroed=False), "refused", ("--raw",)),
    Mistake("a head with its air set to zero", lambda c, p: head(c, p, zeroed=True), "refused", ("--raw",)),
    Mistake("half a brain", changed("flair", half), "warned", ("half", "part of the brain")),
    Mistake("a slab", changed("flair", slab), "warned", ("slab", "ml of brain")),
    Mistake("a brain of some voxels", changed("flair", tiny_brain), "refused", ("ml",)),
    Mistake("thick slices", thick, "warned", ("slices 6.0 mm",)),
    Mistake("no form codes", no_codes, "warned", ("orientation", "left and right")),
    Mistake("qform and sform disagree", two_forms, "warned", ("qform",)),
    Mistake("voxel sizes in metres", metres, "harmless"),
    Mistake("another storage order", stored_otherwise, "harmless:t2+flair"),
    # Values.
    Mistake("NaN outside the brain", changed("flair", nan_outside), "harmless"),
    Mistake("one hot voxel", changed("flair", hot_voxel), "harmless"),
    Mistake("one voxel in a hundred hot", changed("flair", hot_share), "harmless"),
    Mistake("values beyond 32-bit floats", beyond_float, "refused", ("large", "range")),
    # What the result says.
    Mistake("T1 alone", lambda c, p: given(c, "t1"), "warned", ("misses",)),
    Mistake("no T1c", lambda c, p: given(c, "t1", "t2", "flair"), "warned", ("nhancing",)),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_no_mistake_ends_in_a_confident_result(mistake: Mistake, cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    arguments = mistake.make(cohort, tmp_path / "in")
    answer = run("predict", *arguments, "-o", out)
    outcome, _, subset = mistake.outcome.partition(":")
    if outcome == "refused":
        line = refused(answer)
        assert any(word in line for word in mistake.words), line
        assert not out.exists()
        return
    assert answer.code == 0, answer
    warnings = json.loads((out / "result.json").read_text())["warnings"]
    if outcome == "warned":
        found = [line for line in warnings if any(word in line for word in mistake.words)]
        assert found, warnings
        assert all(line in answer.out + answer.err for line in found), "not said on the terminal"
        assert all(line in html_text(out / "report.html") for line in found), "not said in the report"
        return
    clean = run("predict", *given(cohort, *(subset or "flair").split("+")), "-o", tmp_path / "clean")
    assert clean.code == 0, clean
    assert whole_tumor_dice(out, tmp_path / "clean") >= 0.98


def html_text(path: Path) -> str:
    import html

    return html.unescape(path.read_text(encoding="utf-8"))


def whole_tumor_dice(one: Path, other: Path) -> float:
    """Dice of two results in world space, whatever their storage."""
    a, b = (
        np.asarray(nib.as_closest_canonical(nib.load(folder / "segmentation.nii.gz")).dataobj) > 0
        for folder in (one, other)
    )
    assert b.any()
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_a_study_without_mistake_gets_no_warning(cohort: Path, tmp_path: Path) -> None:
    for patient in "ab":
        answer = run("predict", cohort / patient, "-o", tmp_path / patient)
        assert answer.code == 0, answer
        warnings = json.loads((tmp_path / patient / "result.json").read_text())["warnings"]
        # A phantom is not like the patients that the default model was measured on, and nothing else is odd about it.
        assert all(line.startswith("This study is unlike the 13 unseen patients") for line in warnings), warnings


@pytest.mark.parametrize("subset", ["flair", "t2", "t1c+flair", "t1+t2", "t1+t2+flair"])
def test_fewer_sequences_get_only_the_sentences_of_measured_doubt(cohort: Path, tmp_path: Path, subset: str) -> None:
    answer = run("predict", *given(cohort, *subset.split("+")), "-o", tmp_path / "out")
    assert answer.code == 0, answer
    for line in json.loads((tmp_path / "out" / "result.json").read_text())["warnings"]:
        assert "unseen patients" in line or "nhancing" in line, line
