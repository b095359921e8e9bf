"""Settings files: what a reader would misunderstand, or never end to read, is refused in one line."""

import os
import time

import pytest

from anymri.data.datasets.folder import read_folder_spec
from anymri.errors import UserError
from anymri.settings_file import LONGEST_NUMBER, MOST_NESTED, parse_yaml, read_text, read_yaml

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(9)
)
CHAIN = "b0: &b0 [1]\n" + "".join(f"b{i}: &b{i} [*b{i - 1}]\n" for i in range(1, 200))
#: Text to a word of the refusal.
REFUSED = {
    "[" * 3000: "nested deeper than 50",
    "[" * 3000 + "]" * 3000: "nested deeper than 50",
    "{a: " * 3000: "nested deeper than 50",
    LAUGHS: "more than 200,000 values",
    CHAIN: "more than 50 levels",
    "a: &x [*x]": "refers to itself",
    "a: 1\nb: {c: 1, d: 2, c: 3}": "line 2 gives the key 'c' a second time",
    "a: !!python/object/apply:os.system ['touch x']": "has a tag",
    "!!float x": "has a tag",
    "a: 2001-99-99": "cannot be read",
    "a: " + "1" * (LONGEST_NUMBER + 1): "a number of 101 characters",
    "a: 1" + ":1" * 100_000: "a number of 200,001 characters",
    "? [1]\n: 2": "not valid YAML",
    "a: 1\n---\nb: 2": "not valid YAML in line 2",
    "a: [": "not valid YAML",
    "a: \x07": "not valid YAML",
}


@pytest.mark.parametrize(("text", "says"), REFUSED.items(), ids=list(REFUSED.values()))
def test_text_without_sense_or_end_is_refused_at_once(text, says):
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "plan.yaml")
    assert time.process_time() - start < 2
    message = str(caught.value)
    assert message.startswith("plan.yaml: ")
    assert says in message
    assert len(message) < 200
    assert "\n" not in message


def test_what_people_write_is_read_as_before():
    text = "a: &x {lr: 1e-3, n: 0x10}\nb: {<<: *x, on: true}\nc: '1'\ne:\n"
    read = parse_yaml(text, "plan.yaml")
    assert read == {
        "a": {"lr": "1e-3", "n": 16},
        "b": {"lr": "1e-3", "n": 16, True: True},
        "c": "1",
        "e": None,
    }
    assert parse_yaml("", "plan.yaml") is None
    deep = "[" * (MOST_NESTED - 1) + "]" * (MOST_NESTED - 1)
    assert isinstance(parse_yaml(deep, "plan.yaml"), list)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfea\x00:\x00", "not text in UTF-8"),
        (b"a: \xe9", "not text in UTF-8"),
        (b"a: 1\x00", "NUL bytes"),
    ],
)
def test_other_encodings_are_refused(tmp_path, content, says):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: cannot be read")


def test_a_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "run.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)  # takes no room on the disk
    start = time.process_time()
    with pytest.raises(UserError, match=r"has 104,857,600 bytes, more than the 4,194,304"):
        read_yaml(path)
    assert time.process_time() - start < 0.1


def test_what_has_no_end_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="is not a plain file"):
            read_text(path)
    with pytest.raises(UserError, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        read_text(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read"):
        read_text("a\0b")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(tmp_path / "run.yaml") == {"a": 1}


@pytest.mark.parametrize("text", ["files: {label: .nan}", "files: {t1: [a]}", "files: {1: a}"])
def test_a_pattern_that_is_no_text_is_refused(tmp_path, text):
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(UserError, match="has no pattern of file names"):
        read_folder_spec(tmp_path)
