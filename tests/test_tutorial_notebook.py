"""The notebook tutorial: its blocks run from top to bottom."""

from __future__ import annotations

import re


def test_every_block_of_the_tutorial_runs(repository, tmp_path, monkeypatch):
    page = (repository / "docs" / "tutorials" / "notebook.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"block {number}", "exec"), names)
    assert (tmp_path / "slices.png").stat().st_size > 10_000
    shown = names["result"]._repr_html_()
    assert "<img" in shown
    assert "phantom" not in shown
    assert ".nii" not in shown
    assert len(shown) < 100_000
    assert {"segmentation", "uncertainty"} <= set(names["tensors"])
    assert bytes(names["asked"].completed["t2"].header["descrip"]).startswith(b"SYNTHETIC T2")
    assert "parameters" in names["model"].method._repr_html_()
