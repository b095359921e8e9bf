"""Protocol: what every method is and does, apart from the methods themselves."""

from anymri.protocol.method import (
    Method,
    MethodConfig,
    MethodInfo,
    Preset,
    StepContext,
    SubsetNotTrained,
    divisors,
    zero_absent,
)
from anymri.protocol.per_subset import PerSubset, PerSubsetModels, with_target

__all__ = [
    "Method", "MethodConfig", "MethodInfo", "PerSubset", "PerSubsetModels", "Preset", "StepContext",
    "SubsetNotTrained", "divisors", "with_target", "zero_absent",
]  # fmt: skip
