"""Many studies at once: what is listed, done, kept and told, whatever the number of processes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run

from anymri.inference.batch import attempt as attempt_module
from anymri.inference.batch import run as run_module
from anymri.inference.batch.record import StudyRecord
from anymri.inference.batch.run import parse_shard, predict_batch
from anymri.inference.batch.studies import list_studies, take_shard
from anymri.inference.batch.table import read_rows
from anymri.inference.batch.workers import run_in_processes
from anymri.inference.one_study import PredictSettings
from anymri.locks import one_writer
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.stopping import Stopped
from anymri.types import UserError

SHAPE = (24, 20, 16)
#: Sequences of each study; all good but the last.
STUDIES = {"p1": ("t1", "flair"), "p2": ("t2",), "p3": ("t1", "t1c"), "p4": ("t1",)}


def brain(seed):
    """A ball of noise that has the size of a brain."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    values = np.random.default_rng(seed).integers(200, 1000, SHAPE)
    return nib.Nifti1Image(np.where((grid**2).sum(0) < 0.9, values, 0).astype(np.int16), np.diag([7.0, 7.0, 7.0, 1.0]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network with random weights that segments and completes."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    method = create("unet", preset="tiny", width=2, depth=2, completion=1.0)
    method.save(path, TrainingFacts(spacing_mm=(7.0, 7.0, 7.0), window=(8, 8, 8)))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Folder of studies, one of which is no image."""
    root = tmp_path_factory.mktemp("studies")
    for number, (name, codes) in enumerate(STUDIES.items()):
        (root / name).mkdir()
        for place, code in enumerate(codes):
            brain(10 * number + place).to_filename(root / name / f"{code}.nii")
    (root / "p4" / "t1.nii").write_text("text")
    return root


@pytest.fixture
def studies(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "studies"))


@pytest.fixture(scope="module")
def settings(model):
    return PredictSettings(model=str(model), precision="32")


@pytest.fixture(scope="module")
def unbroken(original, settings, tmp_path_factory):
    """A batch in one go."""
    out = tmp_path_factory.mktemp("out")
    predict_batch(original, out, settings, workers=0, progress=False)
    return out


def digests(out):
    """Checksum of every file, hidden ones too."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def table(out):
    rows = csv.DictReader(io.StringIO((out / "volumes.csv").read_text(encoding="utf-8")))
    return {row["study"]: row for row in rows}


def batch(studies, out, settings, **how):
    """A batch in this process, and what it said."""
    said = []
    return predict_batch(studies, out, settings, workers=0, progress=False, say=said.append, **how), said


# ------------------------------------------------------------------------------------------------ results


def test_each_study_is_what_predict_writes_of_it_alone(original, unbroken, model, tmp_path):
    for name in ("p1", "p2", "p3"):
        answer = run("predict", original / name, "-m", model, "--precision", "32", "-o", tmp_path / name)
        assert answer.code == 0, answer.err
        assert digests(tmp_path / name) == digests(unbroken / "studies" / name)
        facts = json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8"))
        row = table(unbroken)[name]
        assert row["status"] == "done"
        assert row["sequences"].split("+") == facts["available"]
        assert row["missing"] == "+".join(facts["missing"])
        for region, volume in facts["volumes_ml"].items():
            assert row[f"{region}_ml"] == ("" if volume is None else str(volume))
        assert row["warnings"] == " | ".join(facts["warnings"])
        assert row["weights_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        assert row["result"] == f"studies/{name}"


def test_a_bad_study_stops_no_other_and_says_why(unbroken):
    row = table(unbroken)["p4"]
    assert row["status"] == "failed"
    assert "t1.nii: is not a NIfTI file" in row["reason"]
    assert not (unbroken / "studies" / "p4").exists()
    assert {row["status"] for name, row in table(unbroken).items() if name != "p4"} == {"done"}


def test_two_processes_give_the_same_files(original, unbroken, model, tmp_path):
    answer = run(
        "predict", "--batch", original, "-m", model, "--precision", "32", "-o", tmp_path / "two", "--workers", 2
    )
    assert answer.code == 1
    assert "failed: p4" in answer.err
    assert digests(tmp_path / "two") == digests(unbroken)


def test_shards_in_one_folder_or_joined_give_the_table_of_all(original, unbroken, settings, tmp_path):
    for number in (1, 2):
        batch(original, tmp_path / f"own{number}", settings, shard=(number, 2))
    shutil.copytree(tmp_path / "own1", tmp_path / "common")
    batch(original, tmp_path / "common", settings, shard=(2, 2))
    assert digests(tmp_path / "common") == digests(unbroken)
    assert all(0 < len(table(tmp_path / f"own{number}")) < 4 for number in (1, 2))
    answer = run("volumes", tmp_path / "own1", tmp_path / "own2", "-o", tmp_path / "all", "--csv")
    assert answer.code == 0, answer.err
    assert answer.out == (tmp_path / "all" / "volumes.csv").read_text(encoding="utf-8")
    joined, single = table(tmp_path / "all"), table(unbroken)
    assert [{**row, "result": ""} for row in joined.values()] == [{**row, "result": ""} for row in single.values()]
    assert (tmp_path / "all" / joined["p1"]["result"] / "report.html").is_file()


def test_a_study_whose_process_is_killed_is_tried_again_alone(original, tmp_path):
    seen = tmp_path / "seen"
    studies = list_studies(original, tmp_path)[:2]
    outcomes = dict(_by_name(run_in_processes(studies, _Killed(seen, "p1"), 1, 1)))
    assert outcomes == {"p1": None, "p2": "p2"}
    assert seen.read_text() == "p1p1"


class _Killed:
    """Work that ends its process for one study."""

    def __init__(self, seen, victim):
        self.seen, self.victim = seen, victim

    def __call__(self, study):
        if study.name == self.victim:
            with self.seen.open("a") as file:
                file.write(study.name)
            os._exit(9)
        return study.name


def _by_name(outcomes):
    for study, record in outcomes:
        yield study.name, record


# ------------------------------------------------------------------------------------------------ going on


def test_only_what_changed_is_done_again(studies, unbroken, settings, tmp_path):
    out = Path(shutil.copytree(unbroken, tmp_path / "out"))
    brain(99).to_filename(studies / "p1" / "t1.nii")
    brain(98).to_filename(studies / "p2" / "flair.nii")
    brain(97).to_filename(studies / "p4" / "t1.nii")
    outcome, said = batch(studies, out, settings)
    assert (outcome.done, outcome.kept, outcome.failed) == (["p1", "p2", "p4"], ["p3"], {})
    assert "1 of 4 studies are finished and kept" in said
    assert "2 finished studies are done again: p1 (its files changed), p2 (its files changed)" in said
    assert table(out)["p2"]["sequences"] == "t2+flair"
    shutil.rmtree(studies / "p3")
    outcome, said = batch(studies, out, settings)
    assert (outcome.done, outcome.kept) == ([], ["p1", "p2", "p4"])
    assert "1 of an earlier run and not in studies any more: p3; they stay in the table" in said[0]
    assert table(out)["p3"]["status"] == "done"


@pytest.fixture
def no_network(monkeypatch):
    """Attempts that do nothing and succeed; of interest is only which studies they are asked for."""

    def attempt(study, out, settings):
        return StudyRecord(
            study=study.name, status="done", inputs="", settings={}, weights_sha256="", program="", result_sha256=""
        )

    monkeypatch.setattr(run_module, "attempt", attempt)


@pytest.mark.parametrize("change", ["settings", "model", "result", "overwrite"])
@pytest.mark.usefixtures("no_network")
def test_other_settings_or_another_model_do_all_again(original, unbroken, model, settings, tmp_path, change):
    out = Path(shutil.copytree(unbroken, tmp_path / "out"))
    if change == "settings":
        settings = PredictSettings(model=str(model), precision="32", labels="brats2021")
    if change == "model":
        method = create("unet", preset="tiny", width=2, depth=2, completion=1.0)
        method.save(tmp_path / "tiny.safetensors", TrainingFacts(spacing_mm=(7.0, 7.0, 7.0), window=(8, 8, 8)))
        settings = PredictSettings(model=str(tmp_path / "tiny.safetensors"), precision="32")
    if change == "result":
        (out / "studies" / "p2" / "segmentation.nii.gz").unlink()
    outcome, said = batch(original, out, settings, overwrite=change == "overwrite")
    assert outcome.done == (["p2", "p4"] if change == "result" else ["p1", "p2", "p3", "p4"])
    words = {"settings": "p1 (other settings (labels))", "model": "another model", "result": "its result is gone"}
    assert change == "overwrite" or words[change] in "\n".join(said)


def test_an_earlier_result_of_a_study_that_fails_now_goes(studies, unbroken, settings, tmp_path):
    out = Path(shutil.copytree(unbroken, tmp_path / "out"))
    (studies / "p1" / "t1.nii").write_text("text")
    outcome, _ = batch(studies, out, settings)
    assert set(outcome.failed) == {"p1", "p4"}
    assert not (out / "studies" / "p1").exists()
    assert not (out / "thumbnails" / "p1.png").exists()
    assert table(out)["p1"]["status"] == "failed"


def test_a_signal_keeps_what_is_finished_and_says_how_to_go_on(original, unbroken, settings, tmp_path, monkeypatch):
    def stop_at_p3(study, **how):
        if study.name == "p3":
            raise Stopped(15)
        return attempt_module.attempt(study, **how)

    monkeypatch.setattr(run_module, "attempt", stop_at_p3)
    with pytest.raises(Stopped) as stop:
        batch(original, tmp_path / "out", settings)
    assert stop.value.kept.startswith("2 of 4 studies are finished and kept; the same command does the others")
    monkeypatch.undo()
    outcome, _ = batch(original, tmp_path / "out", settings)
    assert (outcome.kept, outcome.done) == (["p1", "p2"], ["p3"])
    assert digests(tmp_path / "out") == digests(unbroken)


def test_a_fault_of_the_program_is_a_reason_with_its_text_beside(original, settings, tmp_path, monkeypatch):
    def fall_over(*arguments, **how):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(attempt_module, "predict_to_folder", fall_over)
    outcome, _ = batch(original, tmp_path / "out", settings)
    assert outcome.failed["p1"].startswith("ZeroDivisionError: of all things; this is a fault of the program")
    assert "Traceback" in (tmp_path / "out" / "records" / "p1.txt").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ places


@pytest.mark.usefixtures("no_network")
def test_two_batches_in_one_folder_are_refused_but_for_other_shards(original, settings, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with one_writer(out / "shard-1-of-2"):
        assert set(STUDIES) > set(batch(original, out, settings, shard=(2, 2))[0].done) > set()
        with pytest.raises(UserError, match=r"another batch of 2 shard\(s\) is writing there; wait for it"):
            batch(original, out, settings)


def test_a_folder_of_something_else_is_left_alone(original, settings, tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(UserError, match="holds other files than those of a batch"):
        batch(original, tmp_path, settings)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shard", "3/2"), ("--shard 3/2", "1/4")),
        (("--brain-mask", "mask.nii", "--raw"), ("mask of one study",)),
        (("--t1", "t1.nii"), ("beside a single study",)),
        (("--labels", "mine"), ("--labels mine", "brats2021")),
    ],
)
def test_what_makes_no_sense_is_refused(original, tmp_path, options, words):
    refused(run("predict", "--batch", original, "-o", tmp_path / "out", *options), *words)
    assert not (tmp_path / "out").exists()


def test_options_of_a_batch_need_one(tmp_path):
    refused(run("predict", tmp_path, "--workers", "2"), "add --batch")


def test_a_shard_is_read():
    assert parse_shard(" 2/3 ") == (2, 3)
    for text in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UserError):
            parse_shard(text)


# ------------------------------------------------------------------------------------------------ the page


def test_the_page_shows_every_study_and_calls_nobody(unbroken):
    page = (unbroken / "index.html").read_text(encoding="utf-8")
    assert "http" not in page
    for name in ("p1", "p2", "p3"):
        assert f'href="studies/{name}/report.html"' in page
        assert f'src="thumbnails/{name}.png"' in page
        assert (unbroken / "thumbnails" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "is not a NIfTI file" in page
    assert "This model always looks for a tumour." in page
    keys = [json.loads(text.partition('"')[0].replace("&#34;", '"')) for text in page.split('data-keys="')[1:]]
    assert [key[0] for key in keys] == ["p1", "p2", "p3", "p4"]
    assert keys[2][1] == float(table(unbroken)["p3"]["whole_tumor_ml"])


def test_volumes_reads_results_of_single_predictions_too(unbroken, tmp_path):
    shutil.copytree(unbroken / "studies", tmp_path / "results")
    answer = run("volumes", tmp_path / "results", "--json")
    assert answer.code == 0, answer.err
    assert [row["study"] for row in answer.json["studies"]] == ["p1", "p2", "p3"]
    (tmp_path / "results" / "p2" / "result.json").write_text("{}")
    rows = run("volumes", tmp_path / "results", "--json").json["studies"]
    assert "is missing" in rows[1]["reason"]
    refused(run("volumes", tmp_path / "results", unbroken), "-o FOLDER")
    refused(run("volumes", tmp_path / "results", unbroken, "-o", tmp_path / "all"), "has study p1")
    refused(run("volumes", tmp_path / "nowhere"), "does not exist")


# ------------------------------------------------------------------------------------------------ Ray


@pytest.mark.slow
def test_ray_tasks_give_the_same_files(original, unbroken, settings, tmp_path):
    pytest.importorskip("ray")
    outcome = predict_batch(original, tmp_path / "out", settings, workers=2, ray=True, progress=False)
    assert sorted(outcome.done) == ["p1", "p2", "p3"]
    assert digests(tmp_path / "out") == digests(unbroken)


def test_shards_follow_from_the_ids_alone(original, tmp_path):
    studies = list_studies(original, tmp_path)
    parts = [[study.name for study in take_shard(studies, number, 3)] for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(STUDIES)
    assert [study.name for study in take_shard(studies[:2], 1, 3)] == [
        name for name in parts[0] if name in ("p1", "p2")
    ]


def test_the_derivatives_of_all_studies_are_one_bids_data_set(studies, model, tmp_path):
    settings = PredictSettings(model=str(model), outputs=("bids",))
    predict_batch(studies, tmp_path / "out", settings, workers=0, progress=False)
    root = tmp_path / "out" / "derivatives" / "anymri"
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["sub-p1", "sub-p2", "sub-p3"]
    assert (root / "dataset_description.json").is_file()


def test_what_is_expected_of_a_study_goes_before_what_was_measured_in_others(unbroken, tmp_path):
    shutil.copytree(unbroken / "studies" / "p1", tmp_path / "results" / "p1")
    path = tmp_path / "results" / "p1" / "result.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    score = {"median": 0.7}
    facts["trust"] |= {
        "expected": {"whole_tumor": {"dice": 0.3, "low": 0.1, "high": 0.6, "n": 9}},
        "measured": {"regions": {"whole_tumor": score, "tumor_core": score}, "low": ["tumor_core"]},
    }
    facts["quality"] = {"sequences": {"t1": {"verdict": "doubtful"}}}
    path.write_text(json.dumps(facts), encoding="utf-8")
    (row,) = read_rows([tmp_path / "results"])
    assert sorted(row.low) == ["tumor_core", "whole_tumor"]
    values = {"whole_tumor_dice_expected": 0.3, "whole_tumor_dice_low": 0.1, "whole_tumor_dice_high": 0.6}
    assert {**row.values, **values, "whole_tumor_dice_measured": 0.7, "quality_t1": "doubtful"} == row.values
