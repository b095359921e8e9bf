"""Records: what a file that the program reads back may not be, whatever kind it is."""

import json
import os
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from anymri.errors import UserError
from anymri.records import RECORD, read_lines, read_record, seal, write_record

REMEDY = "write it anew"


@dataclass(frozen=True, kw_only=True)
class Example:
    __pydantic_config__: ClassVar = RECORD

    format: Literal[2]
    spacing_mm: tuple[float, float, float]
    boxes: dict[str, tuple[int, int]]
    name: Annotated[str, Field(min_length=1)] = "x"

    def __post_init__(self):
        if len(self.boxes) > 2:
            raise ValueError("boxes are more than two")


VALUES = {"format": 2, "spacing_mm": [1.0, 2.0, 3], "boxes": {"t2": [1, 2], "t1": [3, 4]}, "name": "b"}


def test_what_was_written_is_read_and_the_same_values_give_the_same_bytes(tmp_path):
    path, again = tmp_path / "a.json", tmp_path / "b.json"
    write_record(path, VALUES)
    write_record(again, VALUES)
    assert path.read_bytes() == again.read_bytes()
    found = read_record(path, Example, REMEDY)
    assert found == Example(format=2, spacing_mm=(1.0, 2.0, 3.0), boxes={"t2": (1, 2), "t1": (3, 4)}, name="b")
    assert list(found.boxes) == ["t2", "t1"]
    path.write_text(json.dumps(json.loads(path.read_text())))  # another layout
    assert read_record(path, Example, REMEDY) == found


def test_a_changed_value_a_changed_order_and_a_lost_checksum_are_noticed(tmp_path):
    path = tmp_path / "a.json"
    sealed = seal(VALUES)
    for change in (
        {"spacing_mm": [1.0, 2.0, 3.5]},
        {"boxes": {"t1": [3, 4], "t2": [1, 2]}},
        {"sha256": "0" * 64},
        {"sha256": 5},
    ):
        path.write_text(json.dumps({**sealed, **change}))
        with pytest.raises(UserError, match=rf"a\.json: was changed or damaged .*sha256.*; {REMEDY}"):
            read_record(path, Example, REMEDY)
    path.write_text(json.dumps(VALUES))
    with pytest.raises(UserError, match=rf"a\.json: sha256 is missing; {REMEDY}"):
        read_record(path, Example, REMEDY)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spacing_mm": [1, "2", 3]}, "spacing_mm.1 = '2' does not fit"),
        ({"spacing_mm": [1, 2]}, "spacing_mm.2 is missing"),
        ({"spacing_mm": None}, "spacing_mm = None does not fit"),
        ({"boxes": {"t1": [1, True]}}, "boxes.t1.1 = True does not fit"),
        ({"boxes": {"t1": [1, 2.0]}}, "boxes.t1.1 = 2.0 does not fit"),
        ({"boxes": [1]}, "boxes = .* does not fit"),
        ({"boxes": {"a": [1, 2], "b": [1, 2], "c": [1, 2]}}, "boxes are more than two"),
        ({"name": ""}, "name = '' does not fit"),
        ({"name": 5}, "name = 5 does not fit"),
        ({"name": "x" * 1_000_000}, "name is a text of 1000000 characters"),
        ({"boxes": {"x" * 1_000_000: [1, 2]}}, "boxes has a key of 1000000 characters"),
        ({"further": 1}, "unknown field further"),
        ({"format": 1}, r"has format 1, made by an older version of anymri \(this one reads 2\); write it anew"),
        ({"format": 3, "further": 1}, "has format 3, made by a newer version .*; update anymri$"),
        ({"format": "2"}, "format = '2' does not fit"),
        ({"format": None}, "format = None does not fit"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, says):
    path = tmp_path / "a.json"
    write_record(path, {**VALUES, **change})
    with pytest.raises(UserError, match=rf"a\.json: {says}") as raised:
        read_record(path, Example, REMEDY)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 30, "-" + "9" * 5000, str(2**63)])
def test_numbers_are_finite_and_have_64_bits(tmp_path, number):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(seal(VALUES)).replace("2.0", number))
    with pytest.raises(UserError, match=rf"a\.json: spacing_mm\.1 is no finite number; {REMEDY}"):
        read_record(path, Example, REMEDY)


DEEP = {
    "brackets": "[" * 3000 + "]" * 3000,
    "open brackets": "[" * 100_000,
    "objects": '{"a":' * 60 + "1" + "}" * 60,
    "empty": "",
    "truncated": json.dumps(seal(VALUES))[:-9],
    "binary": b"\x89PNG\r\n\x1a\n\xff\xfe\x00",
    "list": "[1]",
    "number": "5",
    "a key twice": '{"format": 2, "format": 2}',
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_what_is_no_record_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"a\.json: .*(damaged|nested without end).*; {REMEDY}$"):
        read_record(path, Example, REMEDY)


def test_a_file_that_is_not_there_a_folder_and_one_without_end_are_refused(tmp_path):
    with pytest.raises(UserError, match=f"a: does not exist; {REMEDY}"):
        read_record(tmp_path / "a", Example, REMEDY)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b").write_text("{}")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match=f"{path}: is no plain file; {REMEDY}"):
            read_record(path, Example, REMEDY)
    with pytest.raises(UserError, match=f"cannot be read .*; {REMEDY}"):
        read_record(tmp_path / "b" / "c", Example, REMEDY)
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=f"a: is damaged .1099511627776 bytes.; {REMEDY}"):
        read_record(tmp_path / "a", Example, REMEDY)


@dataclass(frozen=True, kw_only=True)
class Row:
    __pydantic_config__: ClassVar = RECORD

    seconds: float


def test_of_a_log_only_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"seconds": 1.5}\n{"seco\n{"seconds": 2}\n{"seconds": ')
    assert read_lines(path, Row, REMEDY) == [{"seconds": 1.5}, {"seconds": 2}]
    for line, says in (
        ('{"seconds": NaN}', "seconds is no finite number"),
        ("{}", "seconds is missing"),
        ("[1]", "no JSON object"),
        ('{"seconds" 1}', "damaged"),
        ("", "damaged"),
        ("[" * 3000, "nested without end"),
    ):
        path.write_text('{"seconds": 1.5}\n' + line + "\n")
        with pytest.raises(UserError, match=rf"log\.jsonl, line 2: .*{says}"):
            read_lines(path, Row, REMEDY)
