"""Every method and the settings it is tested with, shared by the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

from anymri.methods import METHODS, Method, get_method
from anymri.methods._template import Template
from anymri.testing.batches import make_batch
from anymri.testing.candidate import build_preset
from anymri.testing.training_run import run_turns

__all__ = ["CASES", "build_preset", "make_batch", "run_turns"]

# Goldens are compared with the inputs of the scripts that recorded them.
sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

#: Settings that make a tiny network with a fixed window quicker still.
SMALLER: dict[str, dict] = {name: {"size": (32, 32)} for name in ("cones", "hf_gan", "resvit", "resvit_unified")}

#: Every method of the table (plug-ins test themselves), settings that change what a network is made of, and the
#: template for new methods.
CASES: dict[str, tuple[type[Method], dict]] = {
    **{name: (get_method(name), SMALLER.get(name, {})) for name in METHODS},
    "unet-completing": (
        get_method("unet"),
        {"completion": 1.0, "availability": "modulation", "deep_supervision": True, "targets": "labels"},
    ),
    "template": (Template, {}),
}
