"""Bounds of settings: an absurd value of any field of any settings class is refused at once, a large one is not."""

import math
import time
import types
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from anymri import bounds
from anymri.benchmark.plan import BenchmarkPlan, EvaluationSection
from anymri.bounds import WrongSetting, fill
from anymri.cli import app
from anymri.config import DataSection, TrainingSection, override, validate_run_config
from anymri.data.preprocess import parse_spacing
from anymri.errors import UserError
from anymri.methods import METHODS, get_method
from anymri.phantom.settings import PhantomSettings

CLASSES: dict[str, type] = {
    "data": DataSection,
    "training": TrainingSection,
    "evaluation": EvaluationSection,
    "plan": BenchmarkPlan,
    **{name: get_method(name).Config for name in METHODS},
}
#: What must be given beside the field that is tried.
NEEDED: dict[str, dict[str, Any]] = {"data": {"cache": "c"}, "plan": {"data": {}, "methods": [{"name": "unet"}]}}
ABSURD = (10**12, -(10**12), 10**400, math.inf, -math.inf, math.nan, 1e300, "1e12", True, "\N{DIGIT THREE}x", [[]])


def leaf(kind: Any) -> type | None:
    """Kind of number that a field takes by itself or in a list; None if it takes none."""
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return leaf(inner[0])
    if origin in (Union, types.UnionType, tuple):
        return next((found for part in inner if (found := leaf(part))), None)
    return kind if kind in (int, float) else None


def numeric(cls: type) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls, include_extras=True)
    return [(entry.name, hints[entry.name]) for entry in fields(cls) if leaf(hints[entry.name])]


FIELDS = [(name, key) for name, cls in CLASSES.items() for key, _ in numeric(cls)]


def as_given(kind: Any, value: Any) -> list[Any]:
    """The value by itself, or in lists of as many as the field takes."""
    while hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        return [[value] * (2 if Ellipsis in parts else len(parts))]
    if get_origin(kind) in (Union, types.UnionType):
        return [given for part in get_args(kind) if leaf(part) for given in as_given(part, value)]
    return [value]


def test_every_settings_class_has_numbers_to_try():
    assert len(FIELDS) > 120
    assert {name for name, _ in FIELDS} == set(CLASSES)


@pytest.mark.parametrize(("name", "key"), FIELDS, ids=lambda value: value)
def test_absurd_numbers_are_refused_at_once(name, key):
    cls = CLASSES[name]
    kind = dict(numeric(cls))[key]
    start = time.process_time()
    for absurd in ABSURD:
        for given in as_given(kind, absurd):
            with pytest.raises(WrongSetting) as caught:
                fill(cls, {**NEEDED.get(name, {}), key: given}, bounds.LARGEST)
            assert str(caught.value).startswith(key)
            assert len(str(caught.value)) < 300
            assert "\n" not in str(caught.value)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("training.batch_size=100000000", "should be less than or equal to 65536"),
        ("data.repeat={'*': 100000000}", "should be less than or equal to 10000"),
        ("data.hide={'*': .nan}", "data.hide"),
        ("training.threads=100000000", "should be less than or equal to 1024"),
        ("training.epochs=1000000000000", "should be less than or equal to 1000000"),
        ("training.lr=.inf", "finite"),
        ("training.lr=.nan", "finite"),
        ("training.lr=true", "true and false are no numbers"),
        ("training.patch=[1000000, 1000000, 1000000]", "should be less than or equal to 4096"),
        ("training.seed=-1", "should be greater than or equal to 0"),
        ("training.epochs=" + "[" * 40 + "]" * 40, "training.epochs"),
    ],
)
def test_the_refusal_names_key_and_bound(setting, says):
    values: dict[str, Any] = {"method": {"name": "unet"}, "data": {"cache": "c"}}
    override(values, setting)
    with pytest.raises(UserError) as caught:
        validate_run_config(values, "run.yaml")
    assert str(caught.value).startswith(f"run.yaml: {setting.partition('=')[0]}")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"width": 10**9}, "less than or equal to 65536"),
        ({"depth": 10**6}, "less than or equal to 16"),
        ({"deep_supervision": 7}, "deep_supervision"),
        ({"x" * 10**6: 1}, "unknown key method.config.xxx"),
    ],
)
def test_a_methods_own_settings_are_refused_alike(setting, says):
    with pytest.raises(UserError, match=says) as caught:
        get_method("unet").Config.build(setting)
    assert len(str(caught.value)) < 400


def test_settings_of_large_machines_pass():
    training = fill(TrainingSection, {"patch": [192, 192, 192], "batch_size": 64, "epochs": 10_000, "threads": 256})
    assert training.patch == (192, 192, 192)
    assert get_method("unet").Config.build({"width": 512, "max_width": 4096, "depth": 8}).width == 512
    assert get_method("replica").Config.build({"samples": 50_000_000}).samples == 50_000_000


def test_numbers_of_another_packages_method_have_a_bound_too():
    @dataclass
    class Config:
        width: PositiveInt = 32
        rate: float = 0.1
        switch: bool = False

    assert fill(Config, {"width": 64, "rate": 1, "switch": True}, bounds.LARGEST).width == 64
    for wrong in ({"width": 10**10}, {"rate": math.nan}, {"rate": True}, {"width": True}, {"rate": -1e12}):
        with pytest.raises(WrongSetting):
            fill(Config, wrong, bounds.LARGEST)


@pytest.mark.parametrize("kind", [name for name in bounds.__all__ if name[0].isupper()])
def test_every_kind_refuses_nan_and_infinity(kind):
    if kind.isupper() or kind == "WrongSetting":
        return
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError):
            TypeAdapter(getattr(bounds, kind)).validate_python(value)


@pytest.mark.parametrize("spacing", [1e-6, 1e6, math.nan, math.inf, -1, 0, True, "2"])
def test_phantoms_of_absurd_voxels_are_refused(spacing):
    with pytest.raises(UserError, match="spacing"):
        PhantomSettings(spacing_mm=spacing)


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**7, [[1] * 10**6] * 10, {"a": {"b": [1] * 10**6}}, b"\0" * 10**7], ids=type
)
def test_any_value_is_told_in_a_line(value):
    assert len(bounds.short(value)) < 200


#: Numbers of the command whose settings class has the bounds.
BY_SETTINGS = {("phantom", "spacing"), ("phantom", "artifact_rate")}


@pytest.mark.parametrize(
    "verb", [command.callback for command in app.registered_commands], ids=lambda verb: verb.__name__
)
def test_every_number_of_the_command_has_bounds(verb):
    for name, kind in get_type_hints(verb, include_extras=True).items():
        if leaf(kind) and (verb.__name__, name) not in BY_SETTINGS:
            option = kind.__metadata__[0]
            assert option.min is not None, name
            assert option.max is not None, name
            assert leaf(kind) is int or option.callback is not None, name


@pytest.mark.parametrize("spacing", [1e-6, 1e6, [2, 2, 1e6], math.nan, math.inf, -1, 0, "x", [1, 2]])
def test_absurd_spacings_are_refused(spacing):
    with pytest.raises(UserError, match=r"0\.02 to 100"):
        parse_spacing(spacing)
