"""Quality of every given sequence: artifacts by their severity, and whether it does more harm than good.

`shape` looks at size and outline, `measures` and `agreement` turn an image into numbers, `judge` those into severities
with numbers fitted to simulated artifacts, `study` puts them together.
"""

from anymri.inference.trust.quality.judge import ARTIFACTS
from anymri.inference.trust.quality.shape import check_quality
from anymri.inference.trust.quality.study import (
    CHOICES,
    Choice,
    SequenceQuality,
    StudyQuality,
    judge_rest,
    judge_study,
    usable_of,
)

__all__ = [
    "ARTIFACTS",
    "CHOICES",
    "Choice",
    "SequenceQuality",
    "StudyQuality",
    "check_quality",
    "judge_rest",
    "judge_study",
    "usable_of",
]
