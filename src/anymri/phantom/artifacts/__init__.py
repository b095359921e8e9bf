"""Artifacts of scanner and patient, simulated on ideal images.

`acquisition` is what every image has (resolution, texture, sensitivity, noise); `table` holds the artifacts that spoil
one, each with a strength from 0 to 1, on the physics of `kspace`, `field` and `coverage`;
`head` is what lies around the brain while they act.
"""

from anymri.phantom.artifacts.head import cut_back, draw_shell, put_in_head, show_head
from anymri.phantom.artifacts.table import (
    ARTIFACTS,
    Scan,
    artifact_stream,
    check_strengths,
    impose_artifacts,
    strengths_for,
)

__all__ = [
    "ARTIFACTS",
    "Scan",
    "artifact_stream",
    "check_strengths",
    "cut_back",
    "draw_shell",
    "impose_artifacts",
    "put_in_head",
    "show_head",
    "strengths_for",
]
