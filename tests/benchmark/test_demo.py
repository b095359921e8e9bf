"""The demonstration with a tiny network on coarse phantoms."""

import base64
import hashlib
import re
from io import BytesIO

import pandas as pd
import pytest
import torch
from PIL import Image

from anymri.benchmark import demo
from anymri.config import load_run_config
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.types import GLIOMA, UserError
from anymri.zoo import weights_paths


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    method = create("unet", preset="tiny", width=4, depth=2, completion=1.0)
    method.save(path, TrainingFacts(spacing_mm=(8.0, 8.0, 8.0), window=(12, 12, 12)))
    return str(path)


@pytest.fixture(scope="module")
def shown(model, tmp_path_factory):
    """Folder of a demonstration."""
    folder = tmp_path_factory.mktemp("shown") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SPACING_MM", 8.0)
        demo.run_demo(folder, seed=5, model=model, subjects=2)
    return folder


def test_the_page_has_a_row_and_a_picture_of_every_subset(shown):
    page = (shown / "report.html").read_text(encoding="utf-8")
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    assert table.count("<tr") == 15 + 1, "a row for every subset and the mean"
    places = [page.index(text) for text in ('<h2 id="dice">', "Every subject from every subset", '<h2 id="heat">')]
    assert places == sorted(places)
    assert "Completion of missing sequences" in page
    assert "seed 5" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "needs another file"


def test_every_subject_is_shown_as_it_is_and_from_all_subsets(shown):
    section = (
        (shown / "report.html")
        .read_text(encoding="utf-8")
        .split("Every subject from every subset")[1]
        .split("Heat map")[0]
    )
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', section)
    assert len(pictures) == 2
    rows = 1 + len(GLIOMA.subsets())
    for encoded in pictures:
        picture = Image.open(BytesIO(base64.b64decode(encoded))).convert("L")
        assert picture.height == rows * 154 - 4
        width = (picture.width - 100 - 5 * 4) // 5
        for row in range(rows):
            # Four sequences, given or made, and the segmentation: something is in every panel, names are beside it.
            for left in [0, *(104 + column * (width + 4) for column in range(5))]:
                panel = picture.crop((left, row * 154, left + (width if left else 100), row * 154 + 150))
                assert panel.getextrema()[1] > 60, (row, left)


def test_the_table_is_of_fresh_phantoms(shown):
    table = pd.read_parquet(shown / "results.parquet")
    assert table.subject.nunique() == 2
    assert table.subset.nunique() == 15
    assert not table.seen_in_training.any()
    assert (shown / "flair_only" / "segmentation.nii.gz").is_file()
    assert {path.name for path in (shown / "flair_only" / "completed").glob("*.nii.gz")} == {
        "t1_synthetic.nii.gz", "t1c_synthetic.nii.gz", "t2_synthetic.nii.gz",
    }  # fmt: skip


def test_the_same_seed_shows_the_same_and_replaces_the_earlier_one(shown, model, monkeypatch):
    monkeypatch.setattr(demo, "SPACING_MM", 8.0)

    def digest():
        return hashlib.sha256((shown / "report.html").read_bytes()).hexdigest()

    first = digest()
    (shown / "of_the_earlier_demonstration.txt").touch()
    demo.run_demo(shown, seed=5, model=model, subjects=2)
    assert digest() == first
    assert not (shown / "of_the_earlier_demonstration.txt").exists()


def test_other_folders_are_never_replaced(tmp_path, model):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an earlier demonstration"):
        demo.run_demo(mine, model=model)
    with pytest.raises(UserError, match="not an earlier demonstration"):
        demo.run_demo(mine / "thesis.txt", model=model)
    assert (mine / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_an_unknown_model_is_refused_before_anything_is_made_or_removed(shown, tmp_path):
    with pytest.raises(UserError, match="nobody"):
        demo.run_demo(tmp_path / "new", model="nobody")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="nobody"):
        demo.run_demo(shown, model="nobody")
    assert (shown / "report.html").is_file()


def test_training_in_the_demonstration_has_valid_settings(tmp_path, monkeypatch):
    """The settings file is there and takes the changes; what it trains is tested with the loop."""
    seen = {}
    monkeypatch.setattr(demo, "_phantom_cache", lambda root, subjects, seed: ({}, root / "cache"))
    monkeypatch.setattr("anymri.training.train", lambda config, out: seen.update(config=config) or out)
    assert demo._train(tmp_path, 7) == tmp_path / "run"
    assert seen["config"].training.seed == 7
    assert seen["config"].data.split is None
    assert seen["config"].data.cache == tmp_path / "training" / "cache"
    assert load_run_config(demo.RECIPE).method.config["missing"] == "modality_dropout"


def test_the_bundled_default_is_what_is_shown():
    """Skipped as long as the package has no weights."""
    try:
        path = weights_paths("default")[0]
    except UserError:
        pytest.skip("no bundled weights")
    assert path.is_file()
