"""The command itself: help, exit codes, one line for every mistake, JSON alone on standard output."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run

from anymri.cli import app

VERBS = sorted(command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands)
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "monai", "scipy", "SimpleITK", "sklearn", "jinja2")


def test_the_verbs_are_those_of_the_contract():
    named = "demo phantom index split preprocess train predict evaluate report methods models datasets"
    assert set(named.split()) <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    answer = run(verb, "--help")
    assert answer.code == 0
    assert answer.err == ""
    assert f"anymri {verb}" in answer.out
    catalogue = verb in ("methods", "models", "datasets")
    assert catalogue or f"Example: anymri {verb} " in " ".join(answer.out.split())


def test_help_is_quick_because_nothing_heavy_is_imported():
    program = (
        "import sys; from anymri.cli import main\n"
        "sys.argv = ['anymri', 'train', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_verb_at_all_shows_the_help():
    answer = run()
    assert answer.code == 0
    assert all(verb in answer.out for verb in VERBS)


def test_the_version_is_printed():
    import anymri

    assert run("--version") == (0, f"{anymri.__version__}\n", "")


@pytest.mark.parametrize("catalogue", ["methods", "models", "datasets"])
def test_catalogues_are_json_or_a_table(catalogue):
    rows = run(catalogue, "--json").json
    assert isinstance(rows, list)
    text = run(catalogue)
    assert text.code == 0
    assert all(row["name"] in text.out for row in rows)
    if catalogue == "methods":
        assert {"unet", "threshold"} <= {row["name"] for row in rows}
        assert all(row["subsets"] in ("any", "per-subset", "fixed") for row in rows)
        assert all(set(row["parameters"]) == {"paper", "tiny"} for row in rows)
        for row in rows:
            line = next(line for line in text.out.splitlines() if line.startswith(f"{row['name']} "))
            shown = (row["family"], row["task"], row["year"], row["reference"], row["subsets"], row["parity"])
            assert all(str(part) in line for part in (*shown, *(f"{size:,}" for size in row["parameters"].values())))
    if catalogue == "datasets":
        assert {"brats2021", "brats2023", "folder"} <= {row["name"] for row in rows}


def test_one_method_is_described():
    row = run("methods", "acn", "--json").json
    text = run("methods", "acn")
    assert text.code == 0
    told = (row["title"], row["reference"], row["doi"], row["arxiv"], row["code"], row["novelty"], row["weakness"])
    assert all(told)
    assert all(part in text.out for part in (*told, *row["deviations"], "24,956,170"))
    refused(run("methods", "acm"), "acm", "acn")


USAGE = [
    ("predikt",),
    ("predict", "--flare", "x.nii.gz"),
    ("predict", "--threads", "-1", "--flair", "x.nii.gz"),
    ("predict", "--threads", "many"),
    ("phantom",),
    ("phantom", "{}", "--subjects", "0"),
    ("phantom", "{}", "--subjects", "-3"),
    ("phantom", "{}", "--subjects", "2.5"),
    ("phantom", "{}", "--seed", "-1"),
    ("phantom", "{}", "--workers", "0"),
    ("phantom", "{}", "more"),
    ("train",),
    ("train", "run.yaml"),
    ("evaluate", "model"),
    ("split", "subjects.csv", "--folds", "-2"),
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_wrong_command_line_is_refused_in_one_line(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    refused(run(*(part.format("out") for part in arguments)), "--help")
    assert list(tmp_path.iterdir()) == []


PHANTOM = {
    "--spacing=-1": "-1.0 mm",
    "--spacing=0": "0.0 mm",
    "--spacing=nan": "nan mm",
    "--spacing=99": "99.0 mm",
    "--pathology=flu": "'flu'",
    "--contrast=none": "'none'",
    "--layout=brats": "'brats'",
    "--modalities=t1,pet": "'pet'",
    "--modalities=": "unknown modality ''",
    "--anatomy=odd": "'odd'",
    "--layout=chaos": "'chaos'",
    "--protocol=t1:tr_ms=-500": "tr_ms is -500",
    "--protocol=flair:ti=2": "'flair:ti'",
    "--protocol=t1:tr_ms": "KEY=VALUE",
    "--scanner=old": "'old'",
    "--missing=t1c": "KEY=VALUE",
    "--missing=t1c=half": "not a number",
    "--missing=t1c=2": "t1c is 2.0",
    "--missing=t1c=nan": "not a number",
    "--missing=t9=0.5": "'t9'",
    "--recipe=phantom41": "phantom41",
    "--subjects=200000": "less than or equal to 100000",
}


@pytest.mark.parametrize("option", PHANTOM)
def test_impossible_phantoms_are_refused(tmp_path, option):
    refused(run("phantom", tmp_path / "out", option), PHANTOM[option])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--layout=brats2023", "--modalities=t1,t2,dwi"], "no place for dwi"),
        (["--anatomy=abdomen", "--pathology=stroke"], "--pathology is for brains"),
        (["--anatomy=abdomen", "--layout=brats2023"], "choose chaos or duke_liver"),
        (["--anatomy=abdomen", "--spacing=0.5"], "choose 1 to 8 mm"),
    ],
)
def test_phantom_options_that_do_not_fit_together_are_refused(tmp_path, options, reason):
    refused(run("phantom", tmp_path / "out", *options), reason)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ([], "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz"),
        (["--pathology=stroke", "--modalities=flair,dwi"], "dataset.yaml"),
        (["--anatomy=abdomen"], "MR/1/T1DUAL/DICOM_anon/InPhase/IMG-0001-00001.dcm"),
    ],
)
def test_a_phantom_without_a_layout_gets_one_that_fits(tmp_path, options, first):
    answer = run("phantom", tmp_path / "out", "-n", 1, "--spacing=8", *options)
    assert answer.code == 0, answer
    assert (tmp_path / "out" / first).is_file(), sorted((tmp_path / "out").rglob("*"))[:9]


def test_a_file_in_the_way_is_named(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    subjects = tmp_path / "subjects.csv"
    subjects.write_text("subject,flair\na,a.nii.gz\n")
    (tmp_path / "a.nii.gz").touch()
    refused(run("phantom", taken, "-n", "1", "--spacing", "8", "-q"), taken)
    refused(run("preprocess", subjects, "-o", taken, "-q"), taken)
    refused(run("demo", "-o", taken), taken)
    refused(run("split", subjects, "--fractions", "1,0,0", "-o", taken / "split.json"), taken)
    assert taken.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("index", "nowhere"), ("nowhere: does not exist",)),
        (("index", ".", "--dataset", "brats"), ("'brats'", "brats20")),
        (("index", ".", "--dataset", "brats2023"), ("no subject",)),
        (("index", ".", "--pattern", "t1"), ("--pattern t1",)),
        (("split", "nowhere.csv"), ("nowhere.csv", "anymri index")),
        (("split", "."), (".",)),
        (("split", "here.csv", "--fractions", "a,b"), ("--fractions a,b",)),
        (("preprocess", "nowhere.csv"), ("nowhere.csv", "anymri index")),
        (("preprocess", "here.csv", "--spacing", "-2"), ("--spacing", "0.02")),
        (("train", "nowhere.yaml", "-o", "run"), ("nowhere.yaml",)),
        (("train", ".", "-o", "run"), (".",)),
        (("evaluate", "nobody", "--data", "nowhere"), ("nowhere", "anymri preprocess")),
        (("evaluate", "nobody", "--data", "nowhere", "--precision", "8"), ("--precision 8",)),
        (("evaluate", "nobody", "--data", "nowhere", "--window", "64,64"), ("--window 64,64", "64,64,64")),
        (("evaluate", "nobody", "--data", "nowhere", "--window", "64,0,64"), ("--window 64,0,64", "64,64,64")),
        (("report", "nowhere.parquet"), ("nowhere.parquet", "anymri evaluate")),
        (("report", "here.csv"), ("here.csv", "anymri evaluate")),
        (("report", "."), (".",)),
        (("models", "--card", "nobody"), ("'nobody'",)),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.csv").write_text("subject,flair\na,a.nii.gz\n")
    (tmp_path / "a.nii.gz").touch()
    refused(run(*arguments), *words)
    assert {path.name for path in tmp_path.iterdir()} == {"here.csv", "a.nii.gz"}


def test_preprocess_keeps_the_good_subjects_and_says_which_are_bad(tmp_path):
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, 12),) * 3, indexing="ij"))
    ball = np.where((grid**2).sum(0) < 0.9, np.random.default_rng(0).uniform(1, 9, (12,) * 3), 0).astype(np.float32)
    for name in ("good", "bad"):
        nib.Nifti1Image(ball, np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    whole = (tmp_path / "bad.nii.gz").read_bytes()
    (tmp_path / "bad.nii.gz").write_bytes(whole[:-50])
    (tmp_path / "s.csv").write_text("subject,flair\ngood,good.nii.gz\nbad,bad.nii.gz\n")
    command = ("preprocess", tmp_path / "s.csv", "-o", tmp_path / "cache", "--json", "-q")
    first = run(*command)
    assert first.code == 2
    assert first.json["done"] == 1
    assert list(first.json["failed"]) == ["bad"]
    assert first.err.splitlines()[0].startswith("skipped bad: ")
    assert "1 of its subjects could not be read" in first.err.splitlines()[1]
    assert "Traceback" not in first.err
    (tmp_path / "bad.nii.gz").write_bytes(whole)
    second = run(*command)
    assert second.code == 0
    assert second.json == {"cache": str(tmp_path / "cache"), "done": 1, "skipped": 1, "failed": {}, "doubts": {}}


def test_ctrl_c_ends_in_one_line(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("anymri.zoo.list_models", interrupt)
    answer = run("models")
    assert answer.code == 130
    assert answer.out == ""
    assert answer.err.strip() == "anymri: interrupted; the same command goes on where it can"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/out/x"), ("/out/x", "No space left", "free some space")),
        (PermissionError(13, "Permission denied", "/out/x"), ("/out/x", "Permission denied")),
        (IsADirectoryError(21, "Is a directory", "/out/x"), ("/out/x", "Is a directory", "check the path")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_system_refuses_is_one_line(monkeypatch, error, words):
    def fail():
        raise error

    monkeypatch.setattr("anymri.zoo.list_models", fail)
    refused(run("models"), *words)


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr("anymri.zoo.list_models", fail)
    with pytest.raises(ZeroDivisionError):
        run("models")


def test_numbers_that_json_lacks_become_null(capsys):
    from anymri.cli.options import say

    say(True, {"dice": float("nan"), "rest": [float("inf"), 1.5]}, "")
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"dice": None, "rest": [None, 1.5]}
