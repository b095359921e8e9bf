"""Two processes that predict at one time, from the same files into neighbouring folders: each as if it were alone."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
from command_line import run
from good_inputs import nifti, with_model


def predict(folder: Path, out: str) -> None:
    command = (
        "predict",
        "--flair",
        folder / "x.nii.gz",
        "-m",
        folder / "model.safetensors",
        "-o",
        folder / "out" / out,
    )
    answer = run(*command, "-q")
    assert answer.code == 0, answer.err


def test_two_processes_do_not_disturb_each_other(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with_model(nifti("x.nii.gz", np.int16))(tmp_path)
    predict(tmp_path, "alone")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=predict, args=(tmp_path, out)) for out in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    files = {path.relative_to(tmp_path / "out" / "alone") for path in (tmp_path / "out" / "alone").rglob("*.*")}
    assert len(files) >= 9
    for out in ("one", "two"):
        folder = tmp_path / "out" / out
        assert {path.relative_to(folder) for path in folder.rglob("*.*")} == files
        for name in files:
            if (folder / name).is_file():
                assert (folder / name).read_bytes() == (tmp_path / "out" / "alone" / name).read_bytes(), name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["alone", "one", "two"]
    assert not any((tmp_path / "temporary").iterdir())
