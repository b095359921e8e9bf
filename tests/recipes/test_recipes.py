"""Published settings build a method, and published numbers add up, or the recipe says where not."""

import pytest

from anymri.errors import UserError
from anymri.methods import create, list_methods
from anymri.recipes import list_recipes, load_recipe
from anymri.types import GLIOMA

RECIPES = list_recipes()


def test_both_hetero_modal_networks_have_their_brats2018_recipe():
    assert {("u_hemis", "brats2018"), ("u_hved", "brats2018")} <= set(RECIPES)


@pytest.mark.parametrize(("method", "dataset"), RECIPES)
def test_settings_build_the_method_and_a_run(method, dataset):
    import torch

    assert method in list_methods()
    config = load_recipe(method, dataset).run_config("cache")
    assert config.method.name == method
    with torch.device("meta"):
        network = create(method, preset=config.method.preset, **config.method.config)
    assert network.stages


@pytest.mark.parametrize(("method", "dataset"), RECIPES)
def test_numbers_add_up(method, dataset):
    for table in load_recipe(method, dataset).published:
        assert table.rows or table.printed_mean
        assert all(0 <= value <= 100 for value in table.printed_mean or ())
        assert len(table.printed_mean or table.targets) == len(table.targets)
        if not table.rows:
            continue
        subsets = [GLIOMA.subset_name(subset) for subset in GLIOMA.subsets()]
        assert list(table.rows) == subsets
        assert all(target in (*GLIOMA.regions, *GLIOMA.modalities) for target in table.targets)
        assert all(0 <= value <= 100 for row in table.rows.values() for value in row)
        wrong = {
            target
            for (target, mean), printed in zip(table.mean().items(), table.printed_mean, strict=True)
            if abs(mean - printed) > 0.0501
        }
        assert wrong == set(table.discrepancies)


def test_rows_are_read_with_the_right_modality_order():
    """Checked by hand against the printed dots: FLAIR first, then T1, T1c, T2."""
    hved, hemis = (load_recipe(method, "brats2018").published[0].rows for method in ("u_hved", "u_hemis"))
    assert hved["flair"] == (82.1, 50.4, 24.8)
    assert hved["t1c"] == (62.4, 66.7, 65.5)
    assert hved["t1+t1c+t2+flair"] == (88.8, 76.4, 71.7)
    assert hemis["t1"] == (54.3, 37.9, 12.4)
    assert hemis["t2+flair"] == (86.0, 58.7, 28.0)
    with_t1c = [row[2] for subset, row in hved.items() if "t1c" in subset]
    assert min(with_t1c) > 60
    assert max(row[2] for subset, row in hved.items() if "t1c" not in subset) < 40


def test_an_unknown_recipe_is_refused():
    with pytest.raises(UserError, match=r"no recipe u_hved/brats1999; known: .*u_hemis/brats2018"):
        load_recipe("u_hved", "brats1999")
