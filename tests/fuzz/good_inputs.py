"""Good inputs of ten kinds, what is done with each, and what comes of it: the questions that a damaged one is asked.

`INPUTS` lists them. Each makes a small folder of good files once (`make`), names those that may be damaged, and does
something with a copy of the folder (`use`), which gives an `Outcome` or raises `UserError`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import other_content
from command_line import run
from damage_images import damage_dicom, damage_nifti, damage_text_header, damage_zip, pack
from damage_records import damage_csv, damage_json, damage_parquet, damage_safetensors, damage_yaml
from small_cohort import SIZES, make_study

from anymri.data.cache import Cache
from anymri.data.formats import write_dicom, write_foreign
from anymri.data.geometry import Geometry
from anymri.data.nifti import read_image
from anymri.types import GLIOMA, UserError

KINDS = ("NIfTI", "MHA", "NRRD", "DICOM", "zip", "CSV", "YAML", "JSON", "safetensors", "parquet")
SHAPE = (16, 20, 24)
GRID = Geometry(np.diag([-7.0, -7.0, 7.0, 1.0]), SHAPE[::-1])


class Outcome(NamedTuple):
    """What came of an input.

    Attributes
    ----------
    result : str
        Digest of everything that a user gets.
    notes : tuple of str
        Warnings.
    """

    result: str
    notes: tuple[str, ...] = ()


class Input(NamedTuple):
    """A good input and what is done with it.

    Attributes
    ----------
    kind, name : str
    make : callable
        Writes the good files into a folder.
    files : tuple of str
        Patterns of the files that may be damaged.
    damage : callable
    use : callable
        From the folder to an `Outcome`; what it writes is ``out`` in the folder.
    whole : callable
        Whether a damaged file is a whole one that says something else.
    quick : bool, default=False
        Whether it takes but hundredths of a second.
    keeps : str
        Words of refusals by which a verb says that it keeps what it has done.
    optional : tuple of str
        Names of files without which there is another good input, e.g. the first and the last slice of a series.
    longer : callable
        Whether a damaged file asks for more work than the good one.
    """

    kind: str
    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    damage: Callable[[bytes, Random], tuple[bytes, str]]
    use: Callable[[Path], Outcome]
    whole: other_content.Whole
    quick: bool = False
    keeps: str = "\0"
    optional: tuple[str, ...] = ()
    longer: other_content.Whole = other_content.never


def command(*arguments: Any) -> tuple[str, tuple[str, ...]]:
    """Run a verb; its output and the lines it warned with.

    Raises
    ------
    UserError
        If it refused, in one line.
    """
    answer = run(*arguments)
    if answer.code == 2:
        lines = answer.err.strip("\n").split("\n")
        assert lines[-1].startswith("anymri: "), answer.err
        assert answer.err.count("\n") == len(lines), answer.err
        raise UserError(lines[-1])
    assert answer.code == 0, answer
    return answer.out, tuple(line for line in answer.err.split("\n") if line)


def digest(*parts: Any) -> str:
    """Digest of arrays, files and plain values."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
            for path in files:
                total.update(path.name.encode() + path.read_bytes())
        elif isinstance(part, np.ndarray):
            total.update(f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            total.update(repr(part).encode())
    return total.hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------ images


@lru_cache(1)
def head() -> np.ndarray:
    """A ball of brain with nothing around it, (D, H, W)."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    values = np.random.default_rng(0).integers(200, 1000, SHAPE)
    return np.where((grid**2).sum(0) < 0.9, values, 0).astype(np.int16)


def _rounded(affine: np.ndarray) -> np.ndarray:
    return np.round(affine, 3) + 0.0  # no negative zeros


def volume(name: str, folder: Path) -> Outcome:
    """Voxels and grid of an image."""
    read = read_image(folder / name)
    geometry = read.geometry
    return Outcome(digest(read.array, _rounded(geometry.affine), geometry.orientation_known), read.notes)


def nifti(
    name: str, kind: type, sform: bool = True, qform: bool = True, version: int = 1, swapped: bool = False
) -> Callable[[Path], None]:
    """Maker of a NIfTI file."""

    def make(folder: Path) -> None:
        image_class = nib.Nifti2Image if version == 2 else nib.Nifti1Image
        array = head().transpose(2, 1, 0).astype(kind)
        header = image_class.header_class(endianness=">" if swapped else "<")
        header.set_data_dtype(kind)
        image = image_class(array, GRID.affine, header)
        image.set_qform(GRID.affine, int(qform))
        image.set_sform(GRID.affine, int(sform))
        image.header.set_xyzt_units("mm")
        image.to_filename(folder / name)

    return make


def foreign(name: str, compress: bool = False) -> Callable[[Path], None]:
    """Maker of a MetaImage or NRRD file."""

    def make(folder: Path) -> None:
        import SimpleITK as sitk

        write_foreign(folder / name, head(), GRID)
        if compress:
            sitk.WriteImage(sitk.ReadImage(str(folder / name)), str(folder / name), True)

    return make


@lru_cache(2)
def model_file(folder: Path) -> bytes:
    import torch

    from anymri.methods import create
    from anymri.protocol.facts import TrainingFacts

    torch.manual_seed(0)
    method = create("unet", preset="tiny", width=2, depth=2, completion=1.0)
    method.save(folder / "made.safetensors", TrainingFacts(spacing_mm=None, window=(8, 8, 8)))
    content = (folder / "made.safetensors").read_bytes()
    (folder / "made.safetensors").unlink()
    return content


def with_model(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """The same maker, and a tiny network beside its files."""

    def both(folder: Path) -> None:
        make(folder)
        (folder / "model.safetensors").write_bytes(model_file(folder))

    return both


def predict(name: str) -> Callable[[Path], Outcome]:
    """The verb on one image of the folder."""

    def use(folder: Path) -> Outcome:
        command("predict", "--flair", folder / name, "-m", folder / "model.safetensors", "-o", folder / "out", "-q")
        told = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
        image = nib.load(folder / "out" / "segmentation.nii.gz")
        completed = sorted((folder / "out" / "completed").glob("*.nii.gz"))
        arrays = [np.asarray(nib.load(path).dataobj) for path in completed]
        return Outcome(
            digest(np.asarray(image.dataobj), _rounded(image.affine), *arrays, told["volumes_ml"], told["unknown"]),
            tuple(told["warnings"]),
        )

    return use


def series(folder: Path) -> None:
    """A DICOM series as scanners write it."""
    import pydicom

    grid = Geometry(np.diag([-7.0, -7.0, 7.0, 1.0]), SHAPE[::-1])
    write_dicom(folder / "study" / "a", head(), grid, "study/a", "IMG-{:04d}.dcm")
    for file in sorted((folder / "study" / "a").iterdir()):
        header = pydicom.dcmread(file)
        header.SeriesDescription, header.PatientName, header.PatientID = "FLAIR", "Doe^Jane", "77"
        header.RepetitionTime, header.EchoTime, header.InversionTime = 9000, 120, 2500
        header.save_as(file)


def archive(folder: Path) -> None:
    """A zip archive of a DICOM series."""
    series(folder)
    files = sorted((folder / "study").rglob("*.dcm"))
    (folder / "study.zip").write_bytes(pack([(f"a/{file.name}", file.read_bytes()) for file in files]))
    for file in files:
        file.unlink()


def raw_study(name: str) -> Callable[[Path], Outcome]:
    """The images that the raw path finds in a study."""

    def use(folder: Path) -> Outcome:
        from anymri.data.dicom import is_dicom_study
        from anymri.data.raw.source import find_raw

        if not is_dicom_study(folder / name):
            raise UserError(f"{name}: no DICOM study; give one")
        found = find_raw(folder / name, {}, GLIOMA.modalities)
        parts = [(code, digest(image.array, _rounded(image.geometry.affine))) for code, image in found.images.items()]
        notes = [note for image in found.images.values() for note in image.notes]
        return Outcome(digest(parts), (*found.notes, *notes))

    return use


# ------------------------------------------------------------------------------------------------ tables and settings


def cohort(folder: Path) -> None:
    """Four subjects of two sequences with label maps, their table, a split of other hands, and a description."""
    rng = np.random.default_rng(3)
    rows = ["subject,patient,site,label,t1,flair"]
    for number in range(4):
        for code in ("t1", "flair"):
            values = np.where(head() > 0, rng.integers(100, 900, SHAPE), 0).astype(np.int16)
            nib.Nifti1Image(values.transpose(2, 1, 0), GRID.affine).to_filename(folder / f"p{number}_{code}.nii.gz")
        label = np.zeros(SHAPE[::-1], np.uint8)
        label[8:12, 8:12, 6:10] = 1
        label[9:11, 9:11, 7:9] = 3
        nib.Nifti1Image(label, GRID.affine).to_filename(folder / f"p{number}_seg.nii.gz")
        rows.append(
            f"p{number},q{number},s{number % 2},p{number}_seg.nii.gz,p{number}_t1.nii.gz,p{number}_flair.nii.gz"
        )
    (folder / "subjects.csv").write_text("\n".join(rows) + "\n")
    (folder / "subjects.dataset.yaml").write_text(
        "dataset: folder\nmodalities: [t1, flair]\nlabels: {ncr: 1, edema: 2, et: 3}\n"
        "regions:\n  whole: [ncr, edema, et]\n  enhancing: [et]\n"
    )
    (folder / "dataset.yaml").write_text(
        "title: My cohort\nmodalities: [t1, flair]\n"
        "files: {t1: '*_t1.nii.gz', flair: '*_flair.nii.gz', label: '*_seg.nii.gz'}\n"
        "labels: {core: 1, rim: 3}\nregions: {any: [core, rim], core: [core]}\nfile_values: {1: 1}\n"
    )
    folds = [{"train": ["p0", "p1"], "val": ["p2"]}, {"train": ["p2", "p1"], "val": ["p0"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))


def split_made(folder: Path) -> Outcome:
    """Division of a table's patients."""
    _, notes = command(
        "split", folder / "subjects.csv", "--folds", "2", "--stratify", "site", "-o", folder / "out" / "split.json"
    )
    return Outcome(digest((folder / "out" / "split.json").read_text()), notes)


def preprocessed(folder: Path) -> Outcome:
    """Cache of a table."""
    _, notes = command("preprocess", folder / "subjects.csv", "-o", folder / "out" / "cache", "-q")
    cache = Cache(folder / "out" / "cache")
    return Outcome(digest(cache.fingerprint(), cache.sites, cache.subject_ids, cache.spec), notes)


def indexed(folder: Path) -> Outcome:
    """Index by a description."""
    out, notes = command("index", folder, "-o", folder / "out" / "t.csv", "--no-picture", "--json")
    text = (folder / "out" / "t.csv").read_text() + (folder / "out" / "t.dataset.yaml").read_text()
    told = json.loads(out)
    return Outcome(digest(text), (*notes, *told["not_used"]))


def foreign_split(folder: Path) -> Outcome:
    command(
        "split", folder / "subjects.csv", "--published", folder / "splits_final.json", "-o", folder / "out" / "s.json"
    )
    return Outcome(digest(folder / "out" / "s.json"))


def bids(folder: Path) -> None:
    """A BIDS data set with its table of participants and sidecars."""
    from anymri.data.datasets import get_dataset

    for number in (1, 2):
        arrays = {code: head().astype(np.float32) + number for code in ("t1", "flair")}
        get_dataset("bids").write(folder / "data", f"sub-0{number}", arrays, None, (7.0, 7.0, 7.0))
    for path in list((folder / "data").rglob("*.nii.gz")):
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text('{"EchoTime": 0.1, "RepetitionTime": 9.0}')
    (folder / "data" / "participants.tsv").write_text("participant_id\tage\tsite\nsub-01\t40\tA\nsub-02\t50\tB\n")
    (folder / "data" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')


def bids_indexed(folder: Path) -> Outcome:
    out, notes = command(
        "index", folder / "data", "-d", "bids", "-o", folder / "out" / "t.csv", "--no-picture", "--json"
    )
    return Outcome(digest((folder / "out" / "t.csv").read_text()), (*notes, *json.loads(out)["not_used"]))


def nnunet(folder: Path) -> None:
    """A data set of nnU-Net."""
    for name in ("imagesTr", "labelsTr"):
        (folder / "data" / name).mkdir(parents=True)
    affine = GRID.affine
    for number in range(2):
        for channel in range(2):
            values = (head() + number + channel).transpose(2, 1, 0).astype(np.float32)
            nib.Nifti1Image(values, affine).to_filename(folder / "data" / "imagesTr" / f"c{number}_000{channel}.nii.gz")
        label = np.zeros(SHAPE[::-1], np.uint8)
        label[8:12, 8:12, 6:10] = 1
        nib.Nifti1Image(label, affine).to_filename(folder / "data" / "labelsTr" / f"c{number}.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "lesion": 1}, "numTraining": 2,
        "file_ending": ".nii.gz",
    }  # fmt: skip
    (folder / "data" / "dataset.json").write_text(json.dumps(description))


def nnunet_indexed(folder: Path) -> Outcome:
    out, notes = command(
        "index", folder / "data", "-d", "nnunet", "-o", folder / "out" / "t.csv", "--no-picture", "--json"
    )
    text = (folder / "out" / "t.csv").read_text() + (folder / "out" / "t.dataset.yaml").read_text()
    return Outcome(digest(text), (*notes, *json.loads(out)["not_used"]))


RECIPE = (
    "name: tiny\nseed: 3\ntrain: 1\ntest: 1\nlayout: brats2023\n"
    "settings: {spacing_mm: 8.0, anatomy: plain, pathology: none}\nsha256: {}\n"
)


def recipe_read(folder: Path) -> Outcome:
    """The settings of a recipe, down to the first image that would be made."""
    from anymri.phantom import make_subject
    from anymri.phantom.recipe import read_recipe

    recipe = read_recipe(folder / "recipe.yaml")
    made = make_subject(recipe.seed, 0, recipe.settings)
    return Outcome(digest(*made.images.values(), recipe.name, recipe.train, recipe.test, recipe.layout, recipe.sha256))


# ------------------------------------------------------------------------------------------------ caches, runs, results

CONFIG = {
    "method": {"name": "unet", "config": SIZES["unet"]},
    "data": {"cache": "cache", "split": "split.json", "fold": 0},
    "training": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "patch": [16, 16, 16], "threads": 1, "lr": 0.01},
}


def cached(folder: Path) -> None:
    """A cache of three subjects, a split, a configuration and a plan."""
    import yaml

    cache = Cache.create(folder / "cache", GLIOMA, None)
    for number in range(3):
        cache.write_entry(f"p{number}", make_study(number, GLIOMA.modalities))
    split = {"folds": [{"train": ["p0", "p1"], "validation": [], "test": ["p2"]}], "seed": 0}
    (folder / "split.json").write_text(json.dumps(split))
    (folder / "run.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    plan = {
        "title": "Small", "data": {"cache": "cache", "split": "split.json"}, "methods": [{"name": "unet",
        "config": SIZES["unet"]}, "u_hemis"],
        "folds": [0], "seeds": [0], "training": {"epochs": 1}, "evaluation": {"subsets": ["flair"], "part": "test"},
    }  # fmt: skip
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    (folder / "model.safetensors").write_bytes(model_file(folder))


def evaluated(folder: Path) -> Outcome:
    """Scores of the tiny network on the test subject of a cache."""
    import pyarrow.parquet as parquet

    options = ("--subset", "flair", "--part", "test", "--split", "split.json")
    _, notes = command("evaluate", "model.safetensors", "--data", "cache", *options, "-o", "out/r.parquet", "-q")
    rows = parquet.read_table(folder / "out" / "r.parquet").to_pylist()
    return Outcome(digest([{k: v for k, v in row.items() if k != "protocol"} for row in rows]), notes)


def cache_checked(folder: Path) -> Outcome:
    """What the verb says of a cache, and what training would see of it."""
    _, notes = command("cache", "cache", "--json")
    cache = Cache(folder / "cache")
    parts = []
    for name in cache.subject_ids:
        cache.verify(name)
        study = cache.entry(name)
        parts += [study.image, study.label, study.statistics, study.boxes, study.spacing_mm, study.affine.tolist()]
        parts += [study.present, study.site, study.class_label]
    return Outcome(digest(cache.subject_ids, cache.spacing_mm, cache.spec, *parts), notes)


def trained_from(folder: Path) -> Outcome:
    """A run of one step."""
    _, notes = command("train", "run.yaml", "-o", "out/run", "-q")
    return Outcome(digest(folder / "out" / "run" / "model.safetensors"), notes)


def planned(folder: Path) -> Outcome:
    out, notes = command("benchmark", "plan.yaml", "-o", "out/bench", "--dry-run", "--no-estimate", "--json")
    return Outcome(digest(out), notes)


def with_run(folder: Path) -> None:
    """A finished run with its checkpoint, predictions and pictures of an evaluation."""
    cached(folder)
    command("train", folder / "run.yaml", "-o", folder / "run", "-q")
    command(
        "evaluate", folder / "run", "--data", folder / "cache", "--subset", "flair", "--subset", "t1",
        "-o", folder / "results.parquet", "--save-predictions", folder / "saved", "-q",
    )  # fmt: skip


def half_run(folder: Path) -> None:
    """A run whose last weights are missing, so that it goes on from its checkpoint."""
    with_run(folder)
    (folder / "run" / "model.safetensors").unlink()


def resumed(folder: Path) -> Outcome:
    """A run goes on, or says why not."""
    _, notes = command("train", "run.yaml", "-o", "run", "-q")
    return Outcome(digest(folder / "run" / "model.safetensors"), notes)


def reported(folder: Path) -> Outcome:
    """A page of a results table."""
    command("report", "results.parquet", "-o", "out.html")
    page = re.sub(r"\s+", " ", (folder / "out.html").read_text(encoding="utf-8"))
    return Outcome(digest(page))


def costed(folder: Path) -> Outcome:
    command("report", "results.parquet", "--cost", "cost.csv", "-o", "out.html")
    return Outcome(digest((folder / "out.html").read_text(encoding="utf-8")))


def with_costs(folder: Path) -> None:
    from anymri.benchmark.cost import measure_runs, write_costs

    with_run(folder)
    write_costs(measure_runs([folder / "run"], (16, 16, 16), every_subset=False), folder / "cost.csv")


def weights_opened(folder: Path) -> Outcome:
    """Network and facts of a weights file."""
    from anymri.methods import load

    method = load(folder / "model.safetensors")
    state = [(name, digest(value.numpy())) for name, value in sorted(method.state_dict().items())]
    return Outcome(digest(state, method.config, method.spec, method.facts, method.name))


def small_table(folder: Path) -> None:
    """A results table of twelve rows."""
    from anymri.evaluation.results import write_table

    row = {
        "run": "a", "protocol": "p", "preset": "tiny", "method": "unet", "dataset": "d", "fold": 0, "seed": 0,
        "unit": "", "target": "whole_tumor",
        "metric": "dice", "reference_empty": False, "seen_in_training": False,
    }  # fmt: skip
    rows = [
        {**row, "subject": f"p{n}", "subset": subset, "value": n / 7}
        for n in range(4)
        for subset in ("t1", "flair", "t1+flair")
    ]
    write_table(
        folder / "results.parquet", rows, {"modalities": ["t1", "flair"], "subsets": ["t1", "flair", "t1+flair"]}
    )


def table_read(folder: Path) -> Outcome:
    """Rows and settings of a results table."""
    from anymri.evaluation.results import read_settings, read_table

    frame, stored = read_table(folder / "results.parquet")
    return Outcome(digest(frame.to_dict("list"), stored, read_settings(folder / "results.parquet")))


def tables(folder: Path) -> None:
    """Vectors and graphs of two subjects."""
    from anymri.data.tables import ArrayKind, Tables, graph_kinds

    kinds = {"clinical": ArrayKind("float32", (2,), ("age", "sex")), **graph_kinds("functional", 3, 1)}
    made = Tables.create(folder / "tables", kinds)
    rng = np.random.default_rng(0)
    for name in ("p0", "p1"):
        made.write(
            name,
            {
                "clinical": np.array([50, 1], np.float32), "functional.nodes": rng.random((4, 3), np.float32),
                "functional.edges": np.array([[0, 1, 2], [1, 2, 3]]), "functional.edge_features": np.ones((3, 1),
                np.float32),
            },
        )  # fmt: skip


def tables_read(folder: Path) -> Outcome:
    from anymri.data.tables import Tables

    read = Tables(folder / "tables")
    arrays = [
        (name, sorted((key, digest(value)) for key, value in read.read(name).items())) for name in read.subject_ids
    ]
    return Outcome(digest(arrays, read.fingerprint()))


def images() -> list[Input]:
    """NIfTI, MHA, NRRD, DICOM and archives."""
    whole = other_content
    found = []
    for name, make in (
        ("int16 .nii", nifti("x.nii", np.int16)),
        ("int16 .nii.gz", nifti("x.nii.gz", np.int16)),
        ("float32, sform alone", nifti("x.nii", np.float32, qform=False)),
        ("uint16, qform alone", nifti("x.nii", np.uint16, sform=False)),
        ("NIfTI-2", nifti("x.nii.gz", np.float32, version=2)),
        ("big-endian", nifti("x.nii", np.int16, swapped=True)),
    ):
        file = "x.nii.gz" if name.endswith("gz") or name == "NIfTI-2" else "x.nii"
        found.append(Input("NIfTI", name, make, (file,), damage_nifti, partial(volume, file), whole.nifti, True))
    predicted = with_model(nifti("x.nii.gz", np.int16))
    found.append(Input("NIfTI", "predict", predicted, ("x.nii.gz",), damage_nifti, predict("x.nii.gz"), whole.nifti))
    for kind, attached, detached in (("MHA", "x.mha", "x.mhd"), ("NRRD", "x.nrrd", "x.nhdr")):
        for name, make, files in (
            (attached[1:], foreign(attached), (attached,)),
            (f"{attached[1:]}, packed", foreign(attached, True), (attached,)),
            (detached[1:], foreign(detached), (detached, detached, "x.raw")),
        ):
            use = partial(volume, files[0])
            found.append(Input(kind, name, make, files, damage_text_header, use, whole.text_image, True))
        make, use = with_model(foreign(attached)), predict(attached)
        found.append(Input(kind, "predict", make, (attached,), damage_text_header, use, whole.text_image))
    slices = ("study/a/*.dcm",)
    ends: dict[str, Any] = {"quick": True, "optional": ("IMG-0001.dcm", f"IMG-{SHAPE[0]:04d}.dcm")}
    for name, use in (("series", partial(volume, "study/a")), ("raw study", raw_study("study"))):
        found.append(Input("DICOM", name, series, slices, damage_dicom, use, whole.dicom, **ends))
    use = raw_study("study.zip")
    found.append(Input("zip", "raw study", archive, ("study.zip",), damage_zip, use, whole.archive, True))
    return found


def settings() -> list[Input]:
    """CSV and YAML: what people write."""
    by_table, by_yaml = other_content.table, other_content.strict_yaml
    recipe = lambda folder: (folder / "recipe.yaml").write_text(RECIPE) and None  # noqa: E731
    kept = "subjects could not be read"
    return [
        Input("CSV", "subjects.csv, split", cohort, ("subjects.csv",), damage_csv, split_made, by_table, True),
        Input("CSV", "subjects.csv, cache", cohort, ("subjects.csv",), damage_csv, preprocessed, by_table, False, kept),
        Input(
            "CSV",
            "participants.tsv",
            bids,
            ("data/participants.tsv",),
            damage_csv,
            bids_indexed,
            by_table,
            True,
            "\0",
            ("participants.tsv",),
        ),
        Input("CSV", "cost.csv", with_costs, ("cost.csv",), damage_csv, costed, by_table),
        Input(
            "YAML",
            "dataset.yaml",
            cohort,
            ("dataset.yaml",),
            damage_yaml,
            indexed,
            by_yaml,
            True,
            optional=("dataset.yaml",),
        ),
        Input(
            "YAML",
            "subjects.dataset.yaml",
            cohort,
            ("subjects.dataset.yaml",),
            damage_yaml,
            preprocessed,
            by_yaml,
            False,
            kept,
            ("subjects.dataset.yaml",),  # without it a table is one of gliomas, as docs/reference/formats.md says
        ),
        Input("YAML", "run", cached, ("run.yaml",), damage_yaml, trained_from, by_yaml, longer=other_content.more_work),
        Input("YAML", "plan", cached, ("plan.yaml",), damage_yaml, planned, by_yaml),
        Input("YAML", "recipe", recipe, ("recipe.yaml",), damage_yaml, recipe_read, by_yaml),
    ]


def records() -> list[Input]:
    """JSON, safetensors and parquet: what the program writes, and what other programs do."""
    people, never = other_content.strict_json, other_content.never
    small = with_model(nifti("x.nii", np.int16))
    run_files = ("run/run.json", "run/checkpoint.json", "run/log.jsonl")
    return [
        Input(
            "JSON",
            "cache, checked",
            cached,
            ("cache/*.json",),
            damage_json,
            cache_checked,
            never,
            True,
            "\0",
            ("p0.json", "p1.json", "p2.json"),
        ),
        Input(
            "JSON", "cache, evaluated", cached, ("cache/p2.json", "cache/dataset.json"), damage_json, evaluated, never
        ),
        Input("JSON", "split", cached, ("split.json",), damage_json, evaluated, people),
        Input("JSON", "run folder", half_run, run_files, damage_json, resumed, never),
        Input("JSON", "pictures", with_run, ("results.pictures/index.json",), damage_json, reported, never),
        Input("JSON", "nnU-Net", nnunet, ("data/dataset.json",), damage_json, nnunet_indexed, people, True),
        Input("JSON", "nnU-Net's split", cohort, ("splits_final.json",), damage_json, foreign_split, people, True),
        Input("JSON", "BIDS", bids, ("data/*.json", "data/*/anat/*.json"), damage_json, bids_indexed, people, True),
        Input("JSON", "tables", tables, ("tables/tables.json",), damage_json, tables_read, never, True),
        Input("safetensors", "predict", small, ("model.safetensors",), damage_safetensors, predict("x.nii"), never),
        Input("safetensors", "opened", small, ("model.safetensors",), damage_safetensors, weights_opened, never, True),
        Input("safetensors", "evaluate", cached, ("model.safetensors",), damage_safetensors, evaluated, never),
        Input(
            "safetensors",
            "tables",
            tables,
            ("tables/p0.safetensors",),
            damage_safetensors,
            tables_read,
            never,
            True,
            "\0",
            ("p0.safetensors",),
        ),
        Input("parquet", "report", with_run, ("results.parquet",), damage_parquet, reported, never),
        Input("parquet", "read", small_table, ("results.parquet",), damage_parquet, table_read, never, True),
    ]


INPUTS = [*images(), *settings(), *records()]
