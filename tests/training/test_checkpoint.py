"""Two slots, one pointer: what was written whole is found again."""

import json
from typing import BinaryIO

import pytest
import torch

from anymri.training.checkpoint import CheckpointStore
from anymri.types import UserError


class Death(BaseException):
    """Ends a write without any of its clean-up, as a kill does."""


def state(number: int) -> dict:
    return {"step": number, "model": {"weight": torch.full((3,), float(number))}, "scaler": {}, "best": None}


def test_the_newest_state_is_read_back(tmp_path):
    store = CheckpointStore(tmp_path)
    assert store.read() is None
    for number in (1, 2, 3):
        store.write(state(number))
        assert store.read()["step"] == number
    assert torch.equal(store.read()["model"]["weight"], torch.full((3,), 3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-a.pt", "checkpoint-b.pt", "checkpoint.json"]


def test_a_death_after_any_step_leaves_the_old_or_the_new_state(tmp_path, monkeypatch):
    steps: list[str] = []
    monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(steps.append))
    CheckpointStore(tmp_path).write(state(0))
    found = []
    for number, last in enumerate(steps.copy(), start=1):

        def die(name: str, last: str = last) -> None:
            if name == last:
                raise Death

        before = CheckpointStore(tmp_path).read()["step"]
        monkeypatch.setattr(CheckpointStore, "after_step", staticmethod(die))
        with pytest.raises(Death):
            CheckpointStore(tmp_path).write(state(number))
        after = CheckpointStore(tmp_path).read()["step"]
        assert after in (before, number)
        found.append(after == number)
    assert len(found) == 8
    # The new state counts from the moment the pointer has its name.
    assert found == [False] * 6 + [True] * 2


def test_a_damaged_slot_falls_back_to_the_other(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write(state(1))
    store.write(state(2))
    current = tmp_path / json.loads((tmp_path / "checkpoint.json").read_text(encoding="utf-8"))["current"]["file"]
    current.write_bytes(current.read_bytes()[:-50])
    assert store.read()["step"] == 1
    for path in tmp_path.glob("*.pt"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        store.read()


def test_a_damaged_pointer_is_named(tmp_path):
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(UserError, match=r"checkpoint\.json"):
        CheckpointStore(tmp_path).read()


def test_a_full_disk_keeps_the_old_state_and_leaves_nothing(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    store.write(state(1))

    def full(content: dict, file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        store.write(state(2))
    assert store.read()["step"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-a.pt", "checkpoint.json"]


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return print, ("boom",)

    store = CheckpointStore(tmp_path)
    store.write({"step": 1, "bomb": Bomb()})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        store.read()


def test_clear_removes_everything(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write(state(1))
    store.clear()
    assert not list(tmp_path.iterdir())
    assert store.read() is None


@pytest.mark.parametrize("link", [False, True])
def test_a_pointer_to_a_file_elsewhere_is_not_followed(tmp_path, link):
    folder = tmp_path / "run"
    folder.mkdir()
    store = CheckpointStore(folder)
    store.write(state(1))
    slot, pointer = folder / "checkpoint-a.pt", folder / "checkpoint.json"
    slot.rename(tmp_path / "other.pt")
    if link:
        slot.symlink_to(tmp_path / "other.pt")
    else:
        pointer.write_text(pointer.read_text(encoding="utf-8").replace(slot.name, "../other.pt"), encoding="utf-8")
    says = (
        "is not the plain name of a file in this folder" if link else r"current\.file = '\.\./other\.pt' does not fit"
    )
    with pytest.raises(UserError, match=says):
        store.read()


def test_a_changed_pointer_and_one_of_another_version_are_named(tmp_path):
    store, pointer = CheckpointStore(tmp_path), tmp_path / "checkpoint.json"
    for step in (1, 2):
        store.write(state(step))
    whole = json.loads(pointer.read_text(encoding="utf-8"))
    swapped = {**whole, "current": whole["previous"], "previous": whole["current"]}
    for content, says in (
        (swapped, "was changed"),
        ({**whole, "previous": None}, "was changed"),
        ({key: value for key, value in whole.items() if key != "current"}, "current is missing"),
        ({**whole, "current": {"file": "checkpoint-a.pt", "sha256": 5}}, r"current\.sha256 = 5 does not fit"),
        ({**whole, "format": 2}, "newer version"),
        ({**whole, "current": None}, "current = None does not fit"),
    ):
        pointer.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(UserError, match=rf"checkpoint\.json: .*{says}"):
            store.read()
