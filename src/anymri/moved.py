"""Moved modules: old import paths work for one release and say where their names are now.

A name that only moved is found by its old path; the table below is the whole list. To be removed with version 0.3.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["ATTRIBUTES", "MODULES", "find_moved_modules", "hand_on"]

#: Old module to the new ones that hold its names.
MODULES: dict[str, tuple[str, ...]] = {
    "anymri.cli_benchmark": ("anymri.cli.benchmark",),
    "anymri.cli_data": ("anymri.cli.data",),
    "anymri.cli_methods": ("anymri.cli.catalogues",),
    "anymri.cli_options": ("anymri.cli.options",),
    "anymri.cli_phantom": ("anymri.cli.phantom",),
    "anymri.cli_predict": ("anymri.cli.predict",),
    "anymri.cli_result": ("anymri.cli.result",),
    "anymri.data.cleaning": ("anymri.data.cache_check",),
    "anymri.data.files": ("anymri.files",),
    "anymri.data.published": ("anymri.data.published_splits",),
    "anymri.data.subsets": ("anymri.data.samplers",),
    "anymri.evaluation.calibration": ("anymri.evaluation.metrics.calibration",),
    "anymri.evaluation.classification": ("anymri.evaluation.metrics.classification",),
    "anymri.evaluation.cleaning": ("anymri.evaluation.protocols.post_processing",),
    "anymri.evaluation.full_scores": ("anymri.evaluation.scoring",),
    "anymri.evaluation.lesionwise": ("anymri.evaluation.metrics.lesionwise",),
    "anymri.evaluation.normalisation": ("anymri.evaluation.protocols.normalisation",),
    "anymri.evaluation.plan": ("anymri.evaluation.setup", "anymri.evaluation.score_subject"),
    "anymri.evaluation.replay": ("anymri.evaluation.protocols.replay",),
    "anymri.evaluation.synthesis": ("anymri.evaluation.downstream", "anymri.evaluation.scoring"),
    "anymri.methods.base": ("anymri.protocol.method", "anymri.protocol.per_subset", "anymri.protocol.weights_file"),
    "anymri.methods.per_subset": ("anymri.protocol.per_subset",),
    "anymri.methods.resvit_unified": ("anymri.methods.resvit",),
}
#: Old names to new ones in modules of an old path.
NAMES = {"Asked": "EvaluationSettings", "Family": "PerSubsetModels", "show": "zero_absent"}
#: Names that left a module which is still there; the module ends with ``__getattr__ = hand_on(__name__)``.
ATTRIBUTES = {
    "anymri.data.formats.Source": "anymri.data.selectors.Source",
    "anymri.data.formats.parse_source": "anymri.data.selectors.parse_source",
    "anymri.data.formats.recode": "anymri.data.selectors.recode",
    "anymri.data.formats.select": "anymri.data.selectors.select",
    "anymri.data.formats.source_files": "anymri.data.selectors.source_files",
    "anymri.data.datasets.layout.new_folder": "anymri.files.replace_folder",
    "anymri.data.cache.Entry": "anymri.data.study.Study",
    "anymri.losses.co_training.taken_for": "anymri.losses.co_training.discriminator_bce",
    "anymri.methods.Family": "anymri.protocol.PerSubsetModels",
    "anymri.nn.hetero_modal.start_kernels": "anymri.nn.hetero_modal.init_he_normal",
    "anymri.training.preparation.Plan": "anymri.training.preparation.PreparedRun",
}


class _Finder(MetaPathFinder, Loader):
    """Make a module of an old path that hands on the names of the new ones."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Only for modules of the table."""
        return ModuleSpec(name, self) if name in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        """Warn once per import, and look names up where they are now."""
        old, homes = module.__name__, MODULES[module.__name__]
        new = " and ".join(homes)
        warnings.warn(f"{old} has moved to {new}; the old path ends with version 0.3", DeprecationWarning, stacklevel=2)

        def look_up(name: str) -> Any:
            if not name.startswith("__"):
                for home in homes:
                    found = import_module(home)
                    for spelling in (name, NAMES.get(name, name)):
                        if hasattr(found, spelling):
                            return getattr(found, spelling)
            raise AttributeError(f"module {old!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = look_up


def find_moved_modules() -> None:
    """Let old paths be imported; does nothing the second time."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def hand_on(module: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module that some names of `ATTRIBUTES` have left."""

    def look_up(name: str) -> Any:
        new = ATTRIBUTES.get(f"{module}.{name}")
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, spelling = new.rpartition(".")
        warnings.warn(
            f"{module}.{name} is now {new}; the old name ends with version 0.3", DeprecationWarning, stacklevel=2
        )
        return getattr(import_module(home), spelling)

    return look_up
