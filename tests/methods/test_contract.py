"""The contract suite over the method table: what is absent has no influence, and every part learns."""

from __future__ import annotations

from conftest import CASES

from anymri.methods import get_method, list_methods
from anymri.testing import MethodContract

#: The same modules over three levels with few channels, where `tiny` takes more than five seconds of processor time.
NARROWER: dict[str, dict] = {
    "fgmf": {"widths": (2, 4)},
    "choi": {"widths": (8, 8, 8), "blocks": (1, 1, 1), "hidden": 16, "projected": 4},
    "kd_net": {"widths": (3, 4, 5)},
    "hf_gan": {"multipliers": (1, 1, 2), "layers": 1},
    "hi_net": {"width": 4, "discriminator_width": 4, "initial_deviation": 0.2},
    "had_net": {"width": 2},
    "cwdm": {"widths": (8, 8), "groups": 4, "steps": 2},
    "cg_mcg": {"widths": (2, 4)},
    "lce_net": {"widths": (2, 4)},
    "mmformer": {"widths": (4, 8, 12)},
    "rfnet": {"widths": (4, 8, 12), "hidden": 16},
    "robust_seg": {"widths": (4, 8, 12), "style_widths": (4, 4, 4)},
    "mgp_vae": {"size": 16, "steps": 2, "latent": 8, "embedding": 3, "slices": 64, "width": 8},
    "pimms": {"classifier_widths": (16, 16), "classifier_blocks": 1, "width": 8, "front_width": 8},
    "rs_net": {"widths": (4, 8), "latent": 4, "head_width": 4},
    "shen_gao": {"widths": (4, 8, 12), "discriminator_widths": (8,)},
    "u_hved": {"widths": (4, 8, 12)},
    "wfm": {"widths": (8, 8), "groups": 4},
    "urn": {"channels": 4, "representation_widths": (4, 8), "widths": (4, 8, 12)},
}

for _case, (_cls, _config) in CASES.items():
    _test = f"Test_{_case.replace('-', '_')}"
    globals()[_test] = type(
        _test, (MethodContract,), {"method": _cls, "config": {**_config, **NARROWER.get(_case, {})}, "__doc__": _case}
    )


def test_the_table_names_a_method_as_it_names_itself():
    for name in list_methods():
        assert get_method(name).name == name
