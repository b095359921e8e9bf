"""A run that other code made is never mixed with today's, and never lost."""

import json
from dataclasses import replace

import pytest

from anymri.config import run_id, write_run_config
from anymri.evaluation import evaluate
from anymri.evaluation.results import read_settings
from anymri.protocol.weights_file import read_header
from anymri.records import write_record
from anymri.training import train
from anymri.training.preparation import prepare
from anymri.types import UserError

OTHER = "0123456789abcdef"


def pretend_other_code(run):
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_record(run / "run.json", {**card, "code": OTHER})


@pytest.fixture
def run(make_config, tmp_path):
    return train(make_config(epochs=1), tmp_path / "run", progress=False)


def test_the_code_is_recorded_and_is_no_part_of_the_name(run, make_config):
    plan = prepare(make_config(epochs=1))
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert card["code"] == plan.facts["code"] == read_header(run / "model.safetensors").facts.code
    assert len(card["code"]) == 16
    assert card["run"] == plan.facts["run"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_other_code_is_set_aside_and_begins_anew(run, make_config, finished, capsys):
    pretend_other_code(run)
    if not finished:
        (run / "model.safetensors").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    train(make_config(epochs=1), run, progress=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "other code" in said
    assert "run.code-01234567" in said
    kept = run.with_name("run.code-01234567")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["code"] != OTHER
    assert (run / "model.safetensors").is_file()
    pretend_other_code(run)
    train(make_config(epochs=1), run, progress=False)
    assert run.with_name("run.code-01234567-2").is_dir(), "nothing is overwritten"


def test_a_run_without_recorded_code_goes_on(run, make_config, capsys):
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for key in ("code", "format", "sha256"):  # a card of an older version
        del card[key]
    (run / "run.json").write_text(json.dumps(card), encoding="utf-8")
    before = (run / "model.safetensors").stat().st_mtime_ns
    train(make_config(epochs=1), run, progress=False)
    assert (run / "model.safetensors").stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_results_say_how_many_subjects_a_network_learned_from(make_config, cache_folder, tmp_path):
    config = {"widths": [8, 8], "blocks": [1, 1], "entropy_widths": [4], "knowledge_widths": [4], "subset": "t1c"}
    run = train(make_config("acn", config, epochs=1, steps_per_epoch=1, batch_size=1), tmp_path / "run", progress=False)
    options = {"subjects": ["p3"], "hd95": False, "pictures": False, "progress": False}
    evaluate(run, cache_folder, tmp_path / "r.parquet", **options)
    (training,) = read_settings(tmp_path / "r.parquet")["training"]
    assert training["subset"] == "t1c"
    assert training["subjects"] == 2
    assert training["dropped"] == {"without t2": 1}, "ACN needs every sequence, and p1 lacks one"
    assert training["code"] == read_header(run / "model.safetensors").facts.code


def test_a_run_whose_settings_had_other_names_is_the_same_run(make_config, tmp_path, capsys):
    """MM-GAN's `discriminator_widths` were `judge_widths` once."""
    sizes, usual = {"widths": [2, 4], "judge_widths": [2]}, {"patch": [1, 16, 16]}
    plan = prepare(make_config("mm_gan", sizes, epochs=1, **usual))
    run = train(plan.config, tmp_path / "run", progress=False)
    values = dict(plan.config.method.config)
    values["judge_widths"] = values.pop("discriminator_widths")
    old = replace(plan.config, method=replace(plan.config.method, config=values))
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["run"] == run_id(old, plan.cache.fingerprint())
    write_run_config(old, run / "config.yaml")
    with pytest.raises(UserError, match=r"another run \(its training.epochs is 1, not 2\)"):
        train(make_config("mm_gan", sizes, epochs=2, **usual), run, progress=False)
    pretend_other_code(run)
    train(make_config("mm_gan", sizes, epochs=1, **usual), run, progress=False)
    assert "run.code-01234567" in capsys.readouterr().err


def test_the_code_that_a_run_names_is_no_way_out_of_its_folder(run, make_config, tmp_path):
    card = json.loads((run / "run.json").read_text(encoding="utf-8"))
    write_record(run / "run.json", {**card, "code": "/../../x"})
    with pytest.raises(UserError, match=r"run\.json: code = '/\.\./\.\./x' does not fit"):
        train(make_config(epochs=1), run, progress=False)
    assert (run / "model.safetensors").is_file()
