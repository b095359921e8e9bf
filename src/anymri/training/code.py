"""Hash of the code that trained a network."""

from __future__ import annotations

from functools import cache

from anymri.methods import Method
from anymri.source_code import code_hash

__all__ = ["training_code"]

#: Modules that weights depend on besides the method's own: crops, subsets, augmentation, steps and what is kept.
LOOP = (
    "anymri.data.augment",
    "anymri.data.hiding",
    "anymri.data.loading",
    "anymri.data.samplers",
    "anymri.data.unpaired",
    "anymri.training.classical",
    "anymri.training.cohort",
    "anymri.training.loop",
    "anymri.training.machine",
    "anymri.training.optimization",
    "anymri.training.preparation",
    "anymri.training.shared",
    "anymri.training.subjects",
    "anymri.training.validation",
)


def training_code(cls: type[Method]) -> str | None:
    """Hash of a method's code, of what it imports from anymri, and of the training loop.

    Returns
    -------
    str or None
        See `anymri.source_code.code_hash`. None for a class without a source file.
    """
    return _hash(cls.__module__)


@cache
def _hash(module: str) -> str | None:
    return code_hash([module], LOOP)
