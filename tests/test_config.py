"""Run settings: reading, overriding, refusing, naming."""

from pathlib import Path

import pytest

from anymri.config import RunConfig, load_run_config, run_id, to_plain, validate_run_config, write_run_config
from anymri.types import UserError

TEXT = """
method: {name: unet, preset: tiny, config: {width: 4}}
data: {cache: here/phantom40, split: here/split.json, fold: 1}
training: {epochs: 3, patch: [16, 24, 32], lr: 1e-3, precision: 32}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(TEXT)
    return file


def changed(run: RunConfig, section: str, **values) -> RunConfig:
    plain = to_plain(run)
    plain[section].update(values)
    return validate_run_config(plain)


def test_values_arrive_typed(path):
    config = load_run_config(path)
    assert config.method.name == "unet"
    assert config.method.config == {"width": 4}
    assert config.data.cache == Path("here/phantom40")
    assert config.data.fold == 1
    assert config.training.patch == (16, 24, 32)
    assert config.training.lr == pytest.approx(1e-3)  # YAML reads 1e-3 as text
    assert config.training.precision == "32"  # and 32 as a number


def test_overrides_win_and_are_read_as_yaml(path):
    config = load_run_config(
        path,
        [
            "training.epochs=5",
            "training.patch=[8, 8, 8]",
            "training.sampler=null",
            "method.config.depth=2",
            "method.name=u_hved",
        ],
    )
    assert (config.training.epochs, config.training.patch, config.training.sampler) == (5, (8, 8, 8), None)
    assert config.method.config == {"width": 4, "depth": 2}
    assert config.method.name == "u_hved"


def test_override_opens_a_section_the_file_lacks(tmp_path):
    file = tmp_path / "short.yaml"
    file.write_text("method: {name: unet}\ndata: {cache: c}\n")
    assert load_run_config(file, ["training.seed=7"]).training.seed == 7


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.epoch=5", "unknown key training.epoch; did you mean training.epochs?"),
        ("trainig.epochs=5", "unknown key trainig; did you mean training?"),
        ("training.zzz=5", "unknown key training.zzz; known: training.epochs"),
        ("training.epochs=0", "training.epochs = 0 does not fit"),
        ("training.patch=[8,8]", "training.patch"),
        ("training.precision=64", "training.precision"),
        ("training.device=tpu", "training.device"),
        ("training=5", "training = 5 is not a section"),
        ("training.epochs", "not KEY=VALUE"),
        ("training..x=5", "not KEY=VALUE"),
        ("training.epochs=[", "not valid YAML"),
        ("training.epochs.deep=3", "is a value, not a section"),
        ("data.fold=-1", "data.fold"),
    ],
)
def test_mistakes_are_named_in_one_line(path, override, says):
    with pytest.raises(UserError) as raised:
        load_run_config(path, [override])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no settings in it"),
        ("- 1", "no settings in it"),
        ("a: [", "not valid YAML in line"),
        ("method: {name: unet}", "data is missing"),
        ("method: {name: unet}\ndata: {}", "data.cache is missing"),
    ],
)
def test_broken_files_are_refused(tmp_path, content, says):
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as raised:
        load_run_config(file)
    assert says in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_run_config(tmp_path / "none.yaml")


def test_written_settings_read_back_the_same(path, tmp_path):
    config = load_run_config(path)
    write_run_config(config, tmp_path / "config.yaml")
    assert load_run_config(tmp_path / "config.yaml") == config


def test_run_id_is_readable_and_follows_what_changes_the_result(path):
    config = load_run_config(path)
    name = run_id(config, "data-1")
    assert name.startswith("unet-tiny-phantom40-fold1-seed0-")
    same = changed(
        changed(config, "training", device="cpu", threads=3, checkpoint_every=9),
        "data",
        cache="else/phantom40",
        split="s",
    )
    assert run_id(same, "data-1") == name
    other = [
        run_id(config, "data-2"),
        run_id(changed(config, "training", lr=1e-4), "data-1"),
        run_id(changed(config, "method", config={"width": 5}), "data-1"),
        run_id(changed(config, "training", sampler="all"), "data-1"),
    ]
    assert len({name, *other}) == 5
