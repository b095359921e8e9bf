"""One tiny cohort from phantom to result by the command alone; every step again, which must change nothing."""

import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pyarrow.parquet
import pytest
from command_line import refused, run

from anymri.types import GLIOMA

SUBSETS = [GLIOMA.subset_name(subset) for subset in GLIOMA.subsets()]
CONFIG = """
method: {name: unet, preset: tiny, config: {width: 4, depth: 2, completion: 1.0}}
data: {cache: CACHE}
training: {epochs: 2, steps_per_epoch: 2, patch: [12, 12, 12], precision: "32", device: cpu, seed: 1}
"""


def digests(folder):
    """Checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Cohort:
    """Command lines of one working folder, with progress bars; their JSON must stand alone on standard output."""

    def __init__(self, folder):
        self.folder = folder
        self.study = folder / "brains" / "BraTS-GLI-00000-000"
        self.flair = self.study / "BraTS-GLI-00000-000-t2f.nii.gz"
        self.config = folder / "run.yaml"
        self.config.write_text(CONFIG.replace("CACHE", str(folder / "cache")))

    def __call__(self, *arguments):
        answer = run(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    def phantom(self, out="brains"):
        options = ("-n", 3, "--seed", 3, "--spacing", 8, "--missing", "t1c=0.5")
        return self("phantom", self.folder / out, *options)

    def index(self):
        return self("index", self.folder / "brains", "-d", "brats2023", "-o", self.folder / "subjects.csv")

    def split(self):
        table, out = self.folder / "subjects.csv", self.folder / "split.json"
        return self("split", table, "--fractions", "0.67,0,0.33", "--seed", 1, "-o", out)

    def preprocess(self):
        return self("preprocess", self.folder / "subjects.csv", "-o", self.folder / "cache")

    def train(self, *options):
        split = ("--set", f"data.split={self.folder / 'split.json'}")
        return self("train", self.config, *split, *options, "-o", self.folder / "run")

    def evaluate(self, out="results.parquet"):
        data = ("--data", self.folder / "cache", "--precision", "32")
        return self("evaluate", self.folder / "run", *data, "-o", self.folder / out)

    def report(self, out="report.html"):
        return self("report", self.folder / "results.parquet", "-o", self.folder / out)

    def predict(self, out, *options):
        images = options or ("--flair", self.flair)
        return self("predict", *images, "-m", self.folder / "run", "--precision", "32", "-o", self.folder / out)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Everything made once: 3 subjects of 8 mm, of which some lack T1c."""
    cohort = Cohort(tmp_path_factory.mktemp("cohort"))
    cohort.told = {"phantom": cohort.phantom(), "index": cohort.index(), "split": cohort.split()}
    cohort.told |= {"preprocess": cohort.preprocess(), "train": cohort.train(), "evaluate": cohort.evaluate()}
    cohort.told |= {"report": cohort.report(), "predict": cohort.predict("result")}
    return cohort


def test_the_cohort_lacks_what_was_asked_for(cohort):
    counts = cohort.told["index"]["counts"]
    assert counts["subjects"] == counts["flair"] == counts["label"] == 3
    assert 0 < counts["t1c"] < 3
    assert cohort.told["preprocess"] == {
        "cache": str(cohort.folder / "cache"), "done": 3, "skipped": 0, "failed": {}, "doubts": {},
    }  # fmt: skip
    parts = json.loads((cohort.folder / "split.json").read_text(encoding="utf-8"))["folds"][0]
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [2, 0, 1]


def test_every_subset_is_scored_with_the_subjects_that_have_it(cohort):
    table = pyarrow.parquet.read_table(cohort.folder / "results.parquet").to_pandas()
    dice = table[(table.metric == "dice") & (table.target == "whole_tumor")]
    assert set(dice.subset) == set(SUBSETS)
    with_t1c = cohort.told["index"]["counts"]["t1c"]
    for subset, rows in dice.groupby("subset", observed=True):
        assert len(rows) == (with_t1c if "t1c" in subset.split("+") else 3), subset
        assert rows.value.between(0, 1).all()
    train = json.loads((cohort.folder / "split.json").read_text(encoding="utf-8"))["folds"][0]["train"]
    assert set(table[table.seen_in_training].subject) == set(train)
    assert set(table[table.metric == "psnr"].target) == set(GLIOMA.modalities)


def test_the_report_holds_all_rows_and_needs_no_other_file(cohort):
    page = (cohort.folder / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "seen in training" in page.lower()
    assert not any(f'{attribute}="http' in page for attribute in ("src", "href")), "loads something from outside"


def test_the_result_lies_on_the_grid_of_the_input(cohort):
    source = nib.load(cohort.flair)
    result = cohort.folder / "result"
    names = ["segmentation.nii.gz", *(f"completed/{code}_synthetic.nii.gz" for code in ("t1", "t1c", "t2"))]
    for name in names:
        image = nib.load(result / name)
        assert image.shape == source.shape
        assert np.array_equal(image.affine, source.affine)
        assert np.isfinite(image.get_fdata()).all()
    assert set(np.unique(nib.load(result / names[0]).get_fdata())) <= {0, 1, 2, 3}
    facts = json.loads((result / "result.json").read_text(encoding="utf-8"))
    assert facts["available"] == ["flair"]
    assert facts["missing"] == ["t1", "t1c", "t2"]


def test_each_step_made_again_changes_nothing(cohort):
    before = digests(cohort.folder)
    moments = {path: path.stat().st_mtime_ns for path in (cohort.folder / "cache").iterdir()}
    log = (cohort.folder / "run" / "log.jsonl").read_text(encoding="utf-8")
    cohort.index()
    cohort.split()
    assert cohort.preprocess()["skipped"] == 3
    assert {path: path.stat().st_mtime_ns for path in moments} == moments
    cohort.train()
    assert (cohort.folder / "run" / "log.jsonl").read_text(encoding="utf-8") == log, "trained again"
    cohort.report()
    assert digests(cohort.folder) == before


def test_another_training_in_a_finished_run_is_refused(cohort):
    before = digests(cohort.folder / "run")
    split = ("--set", f"data.split={cohort.folder / 'split.json'}")
    changed = ("train", cohort.config, *split, "--set", "training.lr=0.5", "-o", cohort.folder / "run")
    refused(run(*changed), cohort.folder / "run")
    assert digests(cohort.folder / "run") == before
    spacing = ("preprocess", cohort.folder / "subjects.csv", "-o", cohort.folder / "cache", "--spacing", "4")
    refused(run(*spacing), cohort.folder / "cache")


def test_phantoms_are_the_same_bytes_each_time(cohort, tmp_path):
    options = ("-n", 1, "--seed", 3, "--spacing", 8, "--missing", "t1c=0.5", "-q")
    cohort("phantom", tmp_path / "again", *options)
    again = digests(tmp_path / "again")
    assert len(again) >= 5
    first = digests(cohort.folder / "brains")
    assert {name: first[name] for name in again} == again


def test_evaluation_gives_the_same_bytes_each_time(cohort):
    first = (cohort.folder / "results.parquet").read_bytes()
    cohort.evaluate("again.parquet")
    assert (cohort.folder / "again.parquet").read_bytes() == first
    for path in (cohort.folder / "again.parquet", cohort.folder / "again.pictures"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_prediction_gives_the_same_bytes_each_time(cohort):
    first = digests(cohort.folder / "result")
    try:
        cohort.predict("again")
        assert digests(cohort.folder / "again") == first
        refused(run("predict", "--flair", cohort.flair, "-m", cohort.folder / "run", "-o", cohort.folder / "again"))
        cohort.predict("again", cohort.study, "--overwrite")
        assert json.loads((cohort.folder / "again" / "result.json").read_text(encoding="utf-8"))["available"] != [
            "flair"
        ]
        cohort.predict("again", "--flair", cohort.flair, "--overwrite")
        assert digests(cohort.folder / "again") == first
        assert not [path.name for path in cohort.folder.iterdir() if path.name.startswith(".")]
    finally:
        shutil.rmtree(cohort.folder / "again", ignore_errors=True)


def test_what_is_not_given_does_not_matter(cohort, tmp_path):
    """A folder with only FLAIR in it gives the segmentation that naming FLAIR alone gives."""
    alone = tmp_path / cohort.study.name
    alone.mkdir()
    shutil.copy(cohort.flair, alone)
    cohort("predict", alone, "-m", cohort.folder / "run", "--precision", "32", "-o", tmp_path / "result")
    one, other = tmp_path / "result", cohort.folder / "result"
    # The study is called after its folder or its file; all else is the same.
    named = ("result.json", "report.html")
    facts = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in (one, other)]
    assert [entry.pop("study") for entry in facts] == [alone.name, cohort.flair.name]
    assert facts[0] == facts[1]
    assert {n: d for n, d in digests(one).items() if n not in named} == {
        n: d for n, d in digests(other).items() if n not in named
    }
