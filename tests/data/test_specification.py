from __future__ import annotations

from pathlib import Path

import pytest

from anymri.data.datasets import DATASETS
from anymri.data.missingness import draw_missingness
from anymri.data.specification import dataset_spec, read_spec, spec_path, write_spec
from anymri.types import GLIOMA, Subject, UserError


@pytest.mark.parametrize("name", DATASETS)
def test_a_specification_lies_beside_its_table(name: str, tmp_path: Path) -> None:
    table = tmp_path / "tables" / "mine.csv"
    assert read_spec(table) == GLIOMA
    assert write_spec(table, DATASETS[name].spec, name) == tmp_path / "tables" / "mine.dataset.yaml"
    assert read_spec(table) == DATASETS[name].spec
    assert spec_path(table).read_text(encoding="utf-8").startswith(f"dataset: {name}\n")


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "modalities: [t1]", "modalities: [t9]\nlabels: {}\nregions: {}", "a: ["]
)
def test_a_wrong_specification_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "subjects.dataset.yaml").write_text(text)
    with pytest.raises(UserError, match=r"subjects\.dataset\.yaml: is not a specification") as caught:
        read_spec(tmp_path / "subjects.csv")
    assert "\n" not in str(caught.value)


def test_a_data_set_that_does_not_describe_itself_has_its_adapters(tmp_path: Path) -> None:
    assert dataset_spec(tmp_path, "wmh2017").modalities == ("t1", "flair")
    assert dataset_spec(tmp_path, "folder") == GLIOMA
    assert dataset_spec(tmp_path, "rrms").labels == {"lesion": 1}


def test_the_picture_shows_what_is_there(tmp_path: Path) -> None:
    from matplotlib.image import imread

    file = Path("x.nii.gz")
    subjects = [Subject(f"s{i}", {"t1": file} if i % 2 else {"t1": file, "flair": file}, None) for i in range(8)]
    picture = imread(draw_missingness(subjects, tmp_path / "new" / "missing.png"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["missing.png"]
    dark = (abs(picture[..., :3] - (0.13, 0.33, 0.53)) < 0.02).all(axis=-1).sum()
    light = (abs(picture[..., :3] - 0.93) < 0.005).all(axis=-1).sum()
    assert dark == pytest.approx(light, rel=0.05)  # 12 of 24 cells: t1 8, flair 4 of 8, label 0 of 8
    first = (tmp_path / "new" / "missing.png").read_bytes()
    assert draw_missingness(subjects[::-1], tmp_path / "again.png").read_bytes() == first
