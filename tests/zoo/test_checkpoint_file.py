"""Authors' checkpoint files become weights of anymri; nothing in them is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from command_line import refused, run
from safetensors.torch import save_file

from anymri.methods import load
from anymri.zoo import import_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "methods"))
sys.path.append(str(Path(__file__).parents[1] / "golden"))


@pytest.fixture(scope="module")
def theirs():
    """Weights in the naming of U-HVED's port, the numbers of its golden."""
    from named_numbers import state_dict
    from parity import Golden

    return state_dict(Golden("u_hved").shapes)


class Runs:
    """What a hostile file would hold."""

    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_a_checkpoint_becomes_weights_that_open(theirs, tmp_path):
    torch.save({"state_dict": theirs, "epoch": 3}, tmp_path / "port.pth")
    made = run("import-weights", "u_hved", tmp_path / "port.pth", "-o", tmp_path / "w.safetensors", "--json")
    assert made.code == 0, made.err
    assert made.json["subsets"] == "any"
    opened, expected = load(tmp_path / "w.safetensors").state_dict(), import_checkpoint("u_hved", theirs).state_dict()
    assert all(torch.equal(opened[key], value) for key, value in expected.items() if value.isfinite().all())
    assert opened.keys() == expected.keys()


def test_files_of_safetensors_and_named_entries_do_too(theirs, tmp_path):
    save_file({key: value.contiguous() for key, value in theirs.items()}, str(tmp_path / "port.safetensors"))
    torch.save({"network_weights": theirs}, tmp_path / "port.pth")
    for name, options in (("port.safetensors", ()), ("port.pth", ("--entry", "network_weights"))):
        made = run("import-weights", "u_hved", tmp_path / name, "-o", tmp_path / "w.safetensors", *options)
        assert made.code == 0, made.err
        assert "u_hved, " in made.out


def test_bad_files_are_refused_in_one_line(theirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Runs()}, "hostile.pth")
    torch.save([1, 2], "list.pth")
    torch.save({"state_dict": {}}, "empty.pth")
    torch.save({"state_dict": theirs}, "good.pth")
    Path("text.pth").write_text("no weights")
    Path("table.pth").write_text("subject,t1,flair\np0,a.nii.gz,b.nii.gz\n")
    Path("cut.safetensors").write_bytes(b"\x08\x00")
    whole = Path("good.pth").read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    Path("old.pth").write_bytes(b"\x80\x02}q\x00.")
    Path("torn.pth").write_bytes(b"\x80\x02s.")
    for arguments, words in (
        (("u_hved", "hostile.pth"), ("hostile.pth", "holds more than tensors")),
        (("u_hved", "list.pth"), ("list.pth", "no dictionary of weights")),
        (("u_hved", "text.pth"), ("text.pth", "not a readable checkpoint", "torch.save")),
        (("u_hved", "table.pth"), ("table.pth", "not a readable checkpoint")),
        (("u_hved", "cut.pth"), ("cut.pth", "not a readable checkpoint")),
        (("u_hved", "old.pth"), ("old.pth",)),
        (("u_hved", "torn.pth"), ("torn.pth",)),
        (("u_hved", "."), ("not a readable checkpoint",)),
        (("u_hved", "cut.safetensors"), ("cut.safetensors", "not a readable checkpoint")),
        (("u_hved", "missing.pth"), ("missing.pth", "No such file")),
        (("u_hved", "empty.pth"), ("u_hved",)),
        (("u_hved", "good.pth", "--entry", "model"), ("good.pth", "no entry 'model'", "state_dict")),
        (("u_hved", "good.pth", "--source", "tensorflow"), ("unknown source 'tensorflow'", "port")),
        (("u_hemis", "good.pth"), ("u_hemis", "cannot import foreign weights")),
        (("nothing", "good.pth"), ("unknown method",)),
    ):
        refused(run("import-weights", *arguments, "-o", "w.safetensors"), *words)
    assert not Path("w.safetensors").exists()
    assert not Path("was-run").exists()
