"""Good inputs of ten kinds, what is done with each, and what comes of it: the questions that a damaged one is asked.

`INPUTS` lists them. Each makes a small folder of good files once (`make`), names those that may be damaged, and does
something with a copy of the folder (`use`), which gives an `Outcome` or raises `UserError`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
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
    """

    kind: str
    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    damage: Callable[[bytes, Random], tuple[bytes, str]]
    use: Callable[[Path], Outcome]


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


def volume(path: Path) -> Outcome:
    """Voxels and grid of an image."""
    read = read_image(path)
    geometry = read.geometry
    return Outcome(digest(read.array, np.round(geometry.affine, 4), geometry.orientation_known), read.notes)


def nifti(name: str, kind: type, sform: bool = True, qform: bool = True, version: int = 1, swapped: bool = False) -> Callable[[Path], None]:
    """Maker of a NIfTI file."""

    def make(folder: Path) -> None:
        image_class = nib.Nifti2Image if version == 2 else nib.Nifti1Image
        array = head().transpose(2, 1, 0).astype(kind)
        header = image_class.header_class(endianness=">" if swapped else "<")
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
            digest(np.asarray(image.dataobj), np.round(image.affine, 4), *arrays, told["volumes_ml"], told["unknown"]),
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
        parts = [(code, digest(image.array, np.round(image.geometry.affine, 3))) for code, image in found.images.items()]
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
        rows.append(f"p{number},q{number},s{number % 2},p{number}_seg.nii.gz,p{number}_t1.nii.gz,p{number}_flair.nii.gz")
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


def table_used(folder: Path) -> Outcome:
    """Split and preprocess by a table."""
    command("split", folder / "subjects.csv", "--folds", "2", "-o", folder / "out" / "split.json")
    _, notes = command("preprocess", folder / "subjects.csv", "-o", folder / "out" / "cache", "-q")
    return cache_made(folder / "out" / "cache", (folder / "out" / "split.json").read_text(), notes)


def cache_made(folder: Path, more: str = "", notes: tuple[str, ...] = ()) -> Outcome:
    """Digest of a cache."""
    cache = Cache(folder)
    return Outcome(digest(cache.fingerprint(), cache.sites, cache.subject_ids, more), notes)


def indexed(folder: Path) -> Outcome:
    """Index by a description."""
    out, notes = command("index", folder, "-o", folder / "out" / "t.csv", "--no-picture", "--json")
    text = (folder / "out" / "t.csv").read_text() + (folder / "out" / "t.dataset.yaml").read_text()
    told = json.loads(out)
    return Outcome(digest(text), (*notes, *told["not_used"]))


def foreign_split(folder: Path) -> Outcome:
    command("split", folder / "subjects.csv", "--published", folder / "splits_final.json", "-o", folder / "out" / "s.json")
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
    out, notes = command("index", folder / "data", "-d", "bids", "-o", folder / "out" / "t.csv", "--no-picture", "--json")
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
    out, notes = command("index", folder / "data", "-d", "nnunet", "-o", folder / "out" / "t.csv", "--no-picture", "--json")
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
        "title": "Small", "data": {"cache": "cache", "split": "split.json"}, "methods": [{"name": "unet", "config": SIZES["unet"]}, "u_hemis"],
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
    out, notes = command("cache", "cache", "--json")
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


def weights_predict(folder: Path) -> Outcome:
    return predict("x.nii")(folder)


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
                "functional.edges": np.array([[0, 1, 2], [1, 2, 3]]), "functional.edge_features": np.ones((3, 1), np.float32),
            },
        )  # fmt: skip


def tables_read(folder: Path) -> Outcome:
    from anymri.data.tables import Tables

    read = Tables(folder / "tables")
    arrays = [(name, sorted((key, digest(value)) for key, value in read.read(name).items())) for name in read.subject_ids]
    return Outcome(digest(arrays, read.fingerprint()))


I, R = nifti, foreign
INPUTS = [
    Input("NIfTI", "int16 .nii", I("x.nii", np.int16), ("x.nii",), damage_nifti, lambda f: volume(f / "x.nii")),
    Input("NIfTI", "int16 .nii.gz", I("x.nii.gz", np.int16), ("x.nii.gz",), damage_nifti, lambda f: volume(f / "x.nii.gz")),
    Input("NIfTI", "float32, sform", I("x.nii", np.float32, qform=False), ("x.nii",), damage_nifti, lambda f: volume(f / "x.nii")),
    Input("NIfTI", "uint16, qform", I("x.nii", np.uint16, sform=False), ("x.nii",), damage_nifti, lambda f: volume(f / "x.nii")),
    Input("NIfTI", "NIfTI-2", I("x.nii.gz", np.float32, version=2), ("x.nii.gz",), damage_nifti, lambda f: volume(f / "x.nii.gz")),
    Input("NIfTI", "predict", with_model(I("x.nii.gz", np.int16)), ("x.nii.gz",), damage_nifti, predict("x.nii.gz")),
    Input("MHA", ".mha", R("x.mha"), ("x.mha",), damage_text_header, lambda f: volume(f / "x.mha")),
    Input("MHA", ".mha, packed", R("x.mha", True), ("x.mha",), damage_text_header, lambda f: volume(f / "x.mha")),
    Input("MHA", ".mhd", R("x.mhd"), ("x.mhd", "x.mhd", "x.raw"), damage_text_header, lambda f: volume(f / "x.mhd")),
    Input("MHA", "predict", with_model(R("x.mha")), ("x.mha",), damage_text_header, predict("x.mha")),
    Input("NRRD", ".nrrd", R("x.nrrd"), ("x.nrrd",), damage_text_header, lambda f: volume(f / "x.nrrd")),
    Input("NRRD", ".nrrd, packed", R("x.nrrd", True), ("x.nrrd",), damage_text_header, lambda f: volume(f / "x.nrrd")),
    Input("NRRD", ".nhdr", R("x.nhdr"), ("x.nhdr", "x.nhdr", "x.raw"), damage_text_header, lambda f: volume(f / "x.nhdr")),
    Input("NRRD", "predict", with_model(R("x.nrrd")), ("x.nrrd",), damage_text_header, predict("x.nrrd")),
    Input("DICOM", "series", series, ("study/a/*.dcm",), damage_dicom, lambda f: volume(f / "study" / "a")),
    Input("DICOM", "raw study", series, ("study/a/*.dcm",), damage_dicom, raw_study("study")),
    Input("zip", "raw study", archive, ("study.zip",), damage_zip, raw_study("study.zip")),
    Input("CSV", "subjects.csv", cohort, ("subjects.csv",), damage_csv, table_used),
    Input("CSV", "participants.tsv", bids, ("data/participants.tsv",), damage_csv, bids_indexed),
    Input("CSV", "cost.csv", with_costs, ("cost.csv",), damage_csv, costed),
    Input("YAML", "dataset.yaml", cohort, ("dataset.yaml",), damage_yaml, indexed),
    Input("YAML", "subjects.dataset.yaml", cohort, ("subjects.dataset.yaml",), damage_yaml, table_used),
    Input("YAML", "run", cached, ("run.yaml",), damage_yaml, trained_from),
    Input("YAML", "plan", cached, ("plan.yaml",), damage_yaml, planned),
    Input("YAML", "recipe", lambda f: (f / "recipe.yaml").write_text(RECIPE) and None, ("recipe.yaml",), damage_yaml, recipe_read),
    Input("JSON", "cache, checked", cached, ("cache/*.json",), damage_json, cache_checked),
    Input("JSON", "cache, evaluated", cached, ("cache/p2.json", "cache/dataset.json"), damage_json, evaluated),
    Input("JSON", "split", cached, ("split.json",), damage_json, evaluated),
    Input("JSON", "run folder", half_run, ("run/run.json", "run/checkpoint.json", "run/log.jsonl"), damage_json, resumed),
    Input("JSON", "pictures", with_run, ("results.pictures/index.json",), damage_json, reported),
    Input("JSON", "nnU-Net", nnunet, ("data/dataset.json",), damage_json, nnunet_indexed),
    Input("JSON", "nnU-Net's split", cohort, ("splits_final.json",), damage_json, foreign_split),
    Input("JSON", "BIDS", bids, ("data/*.json", "data/*/anat/*.json"), damage_json, bids_indexed),
    Input("JSON", "tables", tables, ("tables/tables.json",), damage_json, tables_read),
    Input("safetensors", "predict", with_model(I("x.nii", np.int16)), ("model.safetensors",), damage_safetensors, weights_predict),
    Input("safetensors", "evaluate", cached, ("model.safetensors",), damage_safetensors, evaluated),
    Input("safetensors", "tables", tables, ("tables/p0.safetensors",), damage_safetensors, tables_read),
    Input("parquet", "report", with_run, ("results.parquet",), damage_parquet, reported),
]  # fmt: skip
