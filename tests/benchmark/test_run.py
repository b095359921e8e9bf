"""A benchmark from plan to tables: killed and started again, with a method that fails, and as Ray tasks."""

import os
import shutil
import signal
import time

import pandas as pd
import pytest
from apart import SERVER
from command_line import refused, run
from small_cohort import write_cache

PLAN = """
title: Three columns
data: {{cache: {cache}, split: {split}}}
methods:
  - threshold
  - {{name: unet, config: {{width: 2, depth: 2}}}}
  - {{name: u_hemis, config: {{widths: [2, 4]}}}}
training: {{epochs: {epochs}, steps_per_epoch: 2, patch: [16, 16, 16], threads: 1, device: cpu, precision: "32"}}
evaluation: {{part: validation, hd95: false, pictures: false, subsets: [flair, t1c+flair], precision: "32"}}
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("bench") / "balls")


@pytest.fixture
def plan(cohort, tmp_path):
    def write(epochs=1):
        path = tmp_path / "plan.yaml"
        path.write_text(PLAN.format(cache=cohort, split=cohort.parent / "split.json", epochs=epochs))
        return path

    return write


def table(folder):
    frame = pd.read_parquet(folder / "results.parquet")
    return frame.astype(dict.fromkeys(frame.select_dtypes("category").columns, str))


@pytest.fixture(scope="module")
def unbroken(cohort, tmp_path_factory):
    """The same plan with 40 epochs, run once through."""
    folder = tmp_path_factory.mktemp("unbroken")
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(cache=cohort, split=cohort.parent / "split.json", epochs=40))
    answer = run("benchmark", path, "-o", folder / "out", "--no-estimate", "-q", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["done"], answer.json["failed"]) == (3, {})
    return folder / "out"


def test_everything_is_left_in_the_folder(unbroken):
    names = {path.name for path in unbroken.iterdir()}
    assert names >= {"plan.yaml", "runs", "results", "results.parquet", "report.html", "report.md", "report.csv"}
    assert names >= {"report.tex", "statistics.md", "worth.md", "log.jsonl"}
    assert {*table(unbroken).method.unique()} == {"threshold", "unet", "u_hemis"}
    tex = (unbroken / "report.tex").read_text(encoding="utf-8")
    assert tex.count(r"\begin{tabular}") == 3
    assert r"u\_hemis" in tex
    assert tex.count(r"\textbf") >= 9, "a best value in every row"
    statistics = (unbroken / "statistics.md").read_text(encoding="utf-8")
    assert "2 subsets that all methods serve: flair, t1c+flair. n = 1 subjects." in statistics
    assert "not computed" in (unbroken / "worth.md").read_text(encoding="utf-8"), "two subsets give no Shapley value"


def test_a_scoring_that_was_killed_after_its_table_is_brought_to_its_end(unbroken, tmp_path):
    out = shutil.copytree(unbroken, tmp_path / "out")
    path = next(out.glob("results/threshold*.parquet"))
    before = path.read_bytes()
    path.with_suffix(".parts").mkdir()
    answer = run("benchmark", unbroken.parent / "plan.yaml", "-o", out, "--no-estimate", "-q", "--json")
    assert answer.code == 0, answer.err
    assert not list(out.glob("results/*.parts"))
    assert path.read_bytes() == before


def test_a_killed_benchmark_goes_on_to_the_same_table(unbroken, plan, tmp_path):
    out = tmp_path / "out"
    process = SERVER.Process(target=run, args=("benchmark", plan(40), "-o", out, "--no-estimate", "-q"))
    process.start()
    # Killed while a network trains: after its first checkpoint, before its weights.
    while not list(out.glob("runs/unet*/checkpoint.json")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (out / "results.parquet").exists()
    assert run("benchmark", plan(40), "-o", out, "--no-estimate", "-q").code == 0
    pd.testing.assert_frame_equal(table(out), table(unbroken))
    began = (out / "log.jsonl").read_text(encoding="utf-8").count('"start"')
    assert run("benchmark", plan(40), "-o", out, "--no-estimate", "-q").code == 0, "nothing is left to do"
    assert (out / "log.jsonl").read_text(encoding="utf-8").count('"start"') == began


def test_one_failing_method_does_not_stop_the_rest(plan, tmp_path, monkeypatch):
    from anymri.methods import get_method

    def fail(self, batch, ctx):
        raise ArithmeticError("the moon is full")

    with monkeypatch.context() as broken:
        broken.setattr(get_method("unet"), "training_step", fail)
        answer = run("benchmark", plan(), "-o", tmp_path / "out", "--no-estimate", "-q")
    assert answer.code == 1
    assert "failed: unet-tiny" in answer.out
    assert "the moon is full" in answer.out
    assert {*table(tmp_path / "out").method.unique()} == {"threshold", "u_hemis"}
    (note,) = (tmp_path / "out" / "failed").iterdir()
    assert "in fail" in note.read_text(encoding="utf-8"), "the traceback is kept"
    assert run("benchmark", plan(), "-o", tmp_path / "out", "--no-estimate", "-q").code == 0
    assert not list((tmp_path / "out" / "failed").iterdir())


def test_the_plan_and_its_time_are_shown_before_anything_runs(plan, tmp_path):
    answer = run("benchmark", plan(), "-o", tmp_path / "out", "--dry-run")
    assert answer.code == 0
    assert "u_hemis tiny (widths=[2, 4]): 1 cell, 0 done, about 1 min each" in answer.out
    assert "in all 3 cells; about 1 min left" in answer.out
    assert not (tmp_path / "out").exists()


SYSTEMS = """
  - {{name: mm_gan, config: {gan}, then: {unet}}}
  - {{name: u_hved, config: {{widths: [2, 4]}}, then: {unet}}}
  - {{name: u_hved, config: {{widths: [2, 4]}}}}
"""


@pytest.fixture
def systems(plan):
    """The plan with two methods that complete studies before one segmenter, and one of them by itself."""
    path = plan()
    entries = SYSTEMS.format(
        gan="{widths: [2, 4], discriminator_widths: [2, 4]}", unet="{name: unet, config: {width: 2, depth: 2}}"
    )
    text = path.read_text()
    head, rest = text.split("methods:")
    path.write_text(f"{head}methods:{entries}training:{rest.split('training:')[1]}")
    return path


def test_completing_methods_stand_in_the_table_with_a_segmenter(systems, tmp_path):
    out = tmp_path / "out"
    answer = run("benchmark", systems, "-o", out, "--no-estimate", "-q", "--json")
    assert answer.code == 0, answer.out
    assert (answer.json["done"], answer.json["failed"]) == (3, {})
    assert len(list((out / "runs").iterdir())) == 3, "mm_gan, u_hved and one segmenter"
    dice = table(out).query("metric == 'dice'")
    assert set(dice["method"]) == {"mm_gan+unet", "u_hved+unet", "u_hved"}
    assert set(dice["subset"]) == {"flair", "t1c+flair"}
    assert all(run.count("+") == ("+" in method) for run, method in zip(dice["run"], dice["method"], strict=True))
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "WT mm_gan+unet" in report
    assert "code not recorded" not in report
    assert "other code" not in report
    began = (out / "log.jsonl").read_text(encoding="utf-8").count('"start"')
    assert run("benchmark", systems, "-o", out, "--no-estimate", "-q").code == 0
    assert (out / "log.jsonl").read_text(encoding="utf-8").count('"start"') == began, "nothing is left to do"


def test_a_system_without_its_segmenter_is_told(systems, tmp_path, monkeypatch):
    from anymri.methods import get_method

    def fail(self, batch, ctx):
        raise ArithmeticError("the moon is full")

    monkeypatch.setattr(get_method("unet"), "training_step", fail)
    answer = run("benchmark", systems, "-o", tmp_path / "out", "--no-estimate", "-q", "--json")
    assert answer.code == 1
    failed = answer.json["failed"]
    assert sorted(name.split("-")[0] for name in failed) == ["mm_gan", "u_hved", "unet"]
    assert sum("was not trained; see its text" in reason for reason in failed.values()) == 2
    assert answer.json["done"] == 1


def test_systems_are_shown_before_anything_runs(systems, tmp_path):
    answer = run("benchmark", systems, "-o", tmp_path / "out", "--dry-run")
    assert answer.code == 0, answer.err
    assert "mm_gan+unet tiny" in answer.out
    assert "unet tiny (width=2, depth=2), trained for others: 1 cell, 0 done, about 1 min each" in answer.out
    assert "unknown time" not in answer.out


def test_several_at_a_time_need_ray(plan, tmp_path):
    refused(run("benchmark", plan(), "-o", tmp_path / "out", "--workers", "2"), "--workers 2", "--ray")


@pytest.mark.slow
def test_ray_tasks_give_the_same_table(unbroken, plan, tmp_path):
    pytest.importorskip("ray")
    answer = run("benchmark", plan(40), "-o", tmp_path / "out", "--no-estimate", "-q", "--ray", "--workers", 2)
    assert answer.code == 0, answer.out
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(unbroken))
