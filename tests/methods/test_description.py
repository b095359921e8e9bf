"""What a method says of itself: every setting is explained, every deviation stands in one place."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from anymri.cli.catalogues import method_text
from anymri.methods import describe_method, get_method, list_methods
from anymri.methods._description import SHARED_DEVIATIONS, config_fields, deviations_of

ALL = list_methods()


@pytest.mark.parametrize("name", ALL)
def test_every_setting_has_type_meaning_and_the_value_of_each_preset(name):
    cls = get_method(name)
    rows = config_fields(cls)
    assert [row["name"] for row in rows] == [entry.name for entry in fields(cls.Config) if entry.name != "preset"]
    for row in rows:
        assert row["type"], f"{row['name']}: no type in the docstring of {cls.Config.__name__}"
        assert row["description"], f"{row['name']}: not explained in the docstring of {cls.Config.__name__}"
        for preset in cls.presets:
            built = cls.Config.build({**cls.presets[preset].config, "preset": preset})
            assert row["presets"][preset] == getattr(built, row["name"])


@pytest.mark.parametrize("name", ALL)
def test_the_notes_hold_no_deviation(name):
    """One list: what departs from paper and code is a line of `info.deviations` and of nothing else."""
    cls = get_method(name)
    text = cls.__doc__.replace("\n", " ")
    found = re.findall(r"[Dd]eviations?:|\(theirs|\btheirs[:,]|mended", text)
    assert not found, f"{found} in the Notes of {name}: move it to info.deviations"
    own = cls.info.deviations
    assert len(set(own)) == len(own)
    assert all("\n" not in line and line == line.strip() and not line.endswith(".") for line in own)
    assert own or name == "threshold", "a published method departs nowhere?"


def test_known_departures_are_admitted():
    assert any("N4" in line for line in get_method("replica").info.deviations)
    for name in ("acn", "smu_net", "mmcformer"):
        tiny = [line for line in get_method(name).info.deviations if line.startswith("preset tiny:")]
        assert len(tiny) == 3, "consistency, crops and rate of the small training"
    for name in ALL:
        assert (SHARED_DEVIATIONS[0] in deviations_of(get_method(name))) is not get_method(name).classical
    assert "bfloat16" in SHARED_DEVIATIONS[0]


@pytest.mark.parametrize("name", ["acn", "m3ae", "replica", "unet"])
def test_a_method_is_told_whole(name):
    row = describe_method(name)
    text = method_text(row)
    for entry in row["config"]:
        assert f"  {entry['name']} " in text
        assert entry["description"] in text
    for preset, stages in row["stages"].items():
        assert f"stages, preset {preset}:" in text
        for stage in stages:
            assert f"  {stage['name']}: {stage['epochs']} epoch" in text
            assert f"sampler {stage['sampler']};" in text
            assert bool(stage["turns"]) is not get_method(name).classical
    assert all(f"- {line}" in text for line in row["deviations"])


def test_stages_and_optimisers_by_hand():
    stages = describe_method("acn")["stages"]
    turns = stages["paper"][0]["turns"]
    assert (stages["paper"][0]["epochs"], stages["paper"][0]["patch"]) == (300, (128, 192, 160))
    assert turns["networks"]["lr"] == 1e-4
    assert turns["networks"]["schedule"] == "poly"
    assert turns["discriminators"]["betas"] == (0.9, 0.99)
    assert stages["tiny"][0]["turns"]["networks"]["lr"] == 2e-3
    rates = describe_method("m3ae")["stages"]["tiny"][0]["turns"]["main"]["group_lr"]
    assert 0.03 in rates, "the learned image has a rate of its own"
