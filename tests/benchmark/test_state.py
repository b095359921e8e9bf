"""Numbers that other code made are marked or made anew."""

import json

import pyarrow.parquet as parquet
import pytest
from apart import apart
from command_line import run
from small_cohort import write_cache

from anymri.benchmark.origin import origin
from anymri.evaluation.code import scoring_code
from anymri.evaluation.results import METADATA_KEY, read_settings
from anymri.methods import get_method
from anymri.records import seal, write_record
from anymri.training.code import training_code

PLAN = """
data: {{cache: {cache}, split: {split}}}
methods: [threshold, {{name: {name}, config: {{width: 2, depth: 2}}}}]
training: {{epochs: {epochs}, steps_per_epoch: 2, patch: [16, 16, 16], threads: 1, device: cpu, precision: "32"}}
evaluation: {{part: validation, hd95: false, pictures: false, subsets: [flair, t1c+flair], precision: "32"}}
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("state") / "balls")


def write_plan(folder, cohort, name="unet", epochs=1):
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(cache=cohort, split=cohort.parent / "split.json", name=name, epochs=epochs))
    return path


@pytest.fixture
def bench(cohort, tmp_path):
    """A finished benchmark of two cells."""
    plan = write_plan(tmp_path, cohort)
    assert run("benchmark", plan, "-o", tmp_path / "out", "--no-estimate", "-q").code == 0
    return plan, tmp_path / "out"


def table_of(out, method):
    (path,) = (out / "results").glob(f"{method}-*.parquet")
    return path


def change_settings(path, change):
    table = parquet.read_table(path)
    settings = json.loads(table.schema.metadata[METADATA_KEY])
    change(settings)
    parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(seal(settings))}), path)


def other_training(settings):
    settings["training"][0]["code"] = "0" * 16


def other_scoring(settings):
    settings["code"] = "0" * 16


def not_recorded(settings):
    del settings["code"], settings["training"]


def test_code_is_recorded_with_the_weights_and_with_the_results(bench):
    _, out = bench
    for method in ("unet", "threshold"):
        settings = read_settings(table_of(out, method))
        (card,) = out.glob(f"runs/{method}-*/run.json")
        (trained,) = settings["training"]
        assert trained["code"] == json.loads(card.read_text())["code"]
        assert trained["subjects"] == 3
        assert trained["dropped"] == {}
        assert len({trained["code"], settings["code"], "0" * 16}) == 3


def test_scores_of_other_code_are_made_anew_and_the_weights_kept(bench):
    plan, out = bench
    weights = next(out.glob("runs/unet-*/model.safetensors"))
    before, was = weights.stat().st_mtime_ns, table_of(out, "unet").read_bytes()
    change_settings(table_of(out, "unet"), other_scoring)
    shown = run("benchmark", plan, "-o", out, "--no-estimate", "--dry-run")
    assert "unet tiny (width=2, depth=2): 1 cell, 0 done" in shown.out
    assert "1 made anew: other code scored them (unet or what it uses changed)" in shown.out
    assert "threshold tiny: 1 cell, 1 done" in shown.out
    answer = run("benchmark", plan, "-o", out, "--no-estimate")
    assert "1 made anew: other code scored them" in answer.err
    assert table_of(out, "unet").read_bytes() == was
    assert weights.stat().st_mtime_ns == before


def test_weights_of_other_code_are_trained_anew(bench):
    plan, out = bench
    weights, card = (next(out.glob(f"runs/unet-*/{name}")) for name in ("model.safetensors", "run.json"))
    before, was = weights.stat().st_mtime_ns, table_of(out, "unet").read_bytes()
    change_settings(table_of(out, "unet"), other_training)
    write_record(card, {**json.loads(card.read_text()), "code": "0" * 16})
    answer = run("benchmark", plan, "-o", out, "--no-estimate")
    assert "1 made anew: other code trained them (unet or what it uses changed)" in answer.err
    assert weights.stat().st_mtime_ns != before
    assert table_of(out, "unet").read_bytes() == was
    assert len(list((out / "runs").iterdir())) == 2, "nothing is set aside in the benchmark's own folder"


def test_what_is_kept_is_marked_in_every_table(bench):
    plan, out = bench
    change_settings(table_of(out, "unet"), other_training)
    was = table_of(out, "unet").read_bytes()
    answer = run("benchmark", plan, "-o", out, "--no-estimate", "--keep")
    assert "1 kept: other code trained them" in answer.err
    assert table_of(out, "unet").read_bytes() == was
    for suffix in ("html", "md", "tex", "csv"):
        text = (out / f"report.{suffix}").read_text(encoding="utf-8")
        assert "made by other code" in text, suffix
        assert "code not recorded" not in text, suffix
    assert "made by other code" in (out / "statistics.md").read_text(encoding="utf-8")


def test_a_scoring_by_other_code_that_was_killed_is_not_kept(bench):
    """Its table is there and its pictures are not whole."""
    plan, out = bench
    path = table_of(out, "unet")
    was = path.read_bytes()
    change_settings(path, other_scoring)
    path.with_suffix(".parts").mkdir()
    assert run("benchmark", plan, "-o", out, "--no-estimate", "-q", "--keep").code == 0
    assert path.read_bytes() == was
    assert not path.with_suffix(".parts").exists()


def test_old_results_still_open(bench, tmp_path):
    plan, out = bench
    for method in ("unet", "threshold"):
        change_settings(table_of(out, method), not_recorded)
    was = table_of(out, "unet").read_bytes()
    assert run("benchmark", plan, "-o", out, "--no-estimate", "-q").code == 0
    assert table_of(out, "unet").read_bytes() == was
    for suffix in ("html", "md", "csv"):
        text = (out / f"report.{suffix}").read_text(encoding="utf-8")
        assert "code not recorded" in text, suffix
        assert "made by other code" not in text, suffix
    joined = run("report", out / "results.parquet", "-o", tmp_path / "page.html")
    assert joined.code == 0
    assert "code not recorded" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_a_training_that_other_code_began_begins_anew(cohort, tmp_path):
    plan = write_plan(tmp_path, cohort)
    out = tmp_path / "out"
    assert run("benchmark", plan, "-o", out, "--no-estimate", "-q").code == 0
    card = next(out.glob("runs/unet-*/run.json"))
    write_record(card, {**json.loads(card.read_text()), "code": "0" * 16})
    table_of(out, "unet").unlink()
    shown = run("benchmark", plan, "-o", out, "--no-estimate", "--dry-run")
    assert "1 made anew: their training was begun by other code" in shown.out


SYSTEM = """
from anymri.methods.unet import UNet

SCALE = FACTOR

class Mine(UNet):
    name = "mine"

    def training_step(self, batch, ctx):
        output = super().training_step(batch, ctx)
        return output._replace(loss=output.loss * SCALE)
"""


@pytest.mark.slow
def test_an_edited_plug_in_is_trained_anew(cohort, tmp_path, monkeypatch):
    place = tmp_path / "site"
    told = place / "mine_system-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: mine_system\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[anymri.methods]\nmine = mine_system:Mine\n")
    plan = write_plan(tmp_path, cohort, "mine")
    monkeypatch.syspath_prepend(place)
    weights = []
    for factor, said in ((1, ""), ("1  # the same", ""), (-1, "made anew: other code trained them")):
        (place / "mine_system.py").write_text(SYSTEM.replace("FACTOR", str(factor)))
        done = apart(run, "benchmark", plan, "-o", tmp_path / "out", "--no-estimate")
        assert done.code == 0, done.err
        assert (said in done.err) if said else ("made anew" not in done.err)
        weights.append(next(tmp_path.glob("out/runs/mine-*/model.safetensors")).read_bytes())
    assert weights[0] == weights[1] != weights[2]


def network(method, **changes):
    """What a table says of one network that today's code trained and scored."""
    cls = get_method(method)
    facts = {"method": method, "code": scoring_code(cls), "training": [{"code": training_code(cls)}]}
    return {**facts, **changes}


@pytest.mark.parametrize("key", ["then", "downstream"])
def test_a_segmenter_of_other_code_makes_a_table_stale(key):
    own = {"method": "mm_gan+unet"} if key == "then" else {}
    assert origin({**network("mm_gan"), **own, key: network("unet")}) == "current"
    trained = network("unet", training=[{"code": "0" * 16}])
    assert origin({**network("mm_gan"), **own, key: trained}) == "training"
    assert origin({**network("mm_gan"), **own, key: network("unet", code="0" * 16)}) == "scoring"
    assert origin({**network("mm_gan", code="0" * 16), **own, key: network("unet")}) == "scoring"
    assert origin({**network("mm_gan"), **own, key: network("unet", code=None)}) == "unknown"
