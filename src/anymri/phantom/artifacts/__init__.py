"""What the scanner and the patient do to an ideal image.

`acquisition` is what every image has (resolution, texture, sensitivity, noise); `table` holds the artifacts that spoil
one, each with a strength from 0 to 1, on the physics of `kspace`, `field` and `coverage`.
"""

from anymri.phantom.artifacts.table import (
    ARTIFACTS,
    Scan,
    artifact_stream,
    check_strengths,
    impose_artifacts,
    strengths_for,
)

__all__ = ["ARTIFACTS", "Scan", "artifact_stream", "check_strengths", "impose_artifacts", "strengths_for"]
