"""DICOM study to one image per sequence: which series is what, which are left out, and why.

`headers` reads files, `study` holds apart people and studies, `words`, `contrast` and `classify` tell what a series is,
`slices` puts frames in order, `series` brings it together and chooses, `convert` reads the voxels.

No header text is repeated: reasons name the rule that matched, never the text it matched in, since people write names
into descriptions. Series are called by their number in the order of the files.
"""

from anymri.data.dicom.classify import classify_header
from anymri.data.dicom.convert import read_series
from anymri.data.dicom.headers import is_dicom_study, open_study
from anymri.data.dicom.series import (
    Scan,
    Series,
    choose_series,
    describe_unusable,
    describe_unused,
    scan_series,
    scan_study,
)
from anymri.data.dicom.source import DicomSource

__all__ = [
    "DicomSource",
    "Scan",
    "Series",
    "choose_series",
    "classify_header",
    "describe_unusable",
    "describe_unused",
    "is_dicom_study",
    "open_study",
    "read_series",
    "scan_series",
    "scan_study",
]
