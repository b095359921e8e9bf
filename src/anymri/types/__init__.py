"""The types every part of anymri shares, in one namespace.

Nothing of anymri is imported here but `modalities`, `errors` and `records`. `Batch`, `Where`, `Prediction` and
`StepOutput` are named tuples because DDP traverses tuples but neither frozen nor plain classes.
"""

from anymri.errors import UserError
from anymri.types.data import GLIOMA, STATISTICS, UNLABELLED, Batch, DataSpec, Graph, SpecRecord, Subject, Where
from anymri.types.outputs import REGION_CHANNELS, Features, Head, Intensity, Prediction
from anymri.types.training import Cohort, OptimizerSettings, Role, Sampler, Stage, StepOutput

__all__ = [
    "GLIOMA", "REGION_CHANNELS", "STATISTICS", "UNLABELLED", "Batch", "Cohort", "DataSpec", "Features", "Graph", "Head",
    "Intensity", "OptimizerSettings", "Prediction", "Role", "Sampler", "SpecRecord", "Stage", "StepOutput", "Subject",
    "UserError", "Where",
]  # fmt: skip
