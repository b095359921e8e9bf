"""Formats of a result: one visible table from the name in ``--outputs`` to the writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from anymri.errors import UserError
from anymri.inference.output.bids import write_bids
from anymri.inference.output.dicom_mr import write_dicom_mr
from anymri.inference.output.dicom_seg import write_dicom_seg
from anymri.inference.output.nifti_files import write_nifti
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.result import Result
from anymri.inference.output.surface import write_surfaces

__all__ = ["DEFAULT_OUTPUTS", "OUTPUTS", "Output", "check_outputs", "write_outputs"]

#: Signature of a writer: result, folder of the result (a draft that gets its name when it is whole), options.
Writer = Callable[[Result, Path, OutputOptions], None]


@dataclass(frozen=True)
class Output:
    """One format.

    Parameters
    ----------
    write : callable
        Writes the files into the folder of a result.
    what : str
        What it writes, for help and messages.
    needs : tuple of str, default=()
        Libraries that have to be installed.
    extra : str, default=""
        Extra of the package that brings them.
    from_dicom : bool, default=False
        Whether the study must have come as DICOM.
    """

    write: Writer
    what: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    from_dicom: bool = False


_DICOM = ("highdicom", "dicognito")
#: Every format by the name that ``--outputs`` takes.
OUTPUTS: dict[str, Output] = {
    "nifti": Output(write_nifti, "segmentation and completed sequences as NIfTI"),
    "dicom-seg": Output(
        write_dicom_seg, "segmentation as a DICOM object over its series", _DICOM, "dicom", from_dicom=True
    ),
    "dicom-mr": Output(write_dicom_mr, "completed sequences as DICOM series", _DICOM, "dicom", from_dicom=True),
    "bids": Output(write_bids, "a BIDS data set of derivatives"),
    "surface": Output(write_surfaces, "surface of every region as STL and OBJ", ("trimesh", "skimage"), "surface"),
}
DEFAULT_OUTPUTS = ("nifti",)


def check_outputs(names: str | Sequence[str], *, dicom: bool = True) -> tuple[str, ...]:
    """Names of formats, each once, or a refusal before anything is computed.

    Parameters
    ----------
    names : str or sequence of str
        ``"nifti,dicom-seg"``, or the names.
    dicom : bool, default=True
        Whether the study came as DICOM, as far as is known.

    Raises
    ------
    UserError
        If there is no such format or none at all, its library is not installed, or it refers to DICOM series and
        the study has none.
    """
    listed = names.split(",") if isinstance(names, str) else names
    chosen = tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))
    if not chosen:
        raise UserError(f"--outputs: names no format; choose of {', '.join(OUTPUTS)}")
    for name in chosen:
        if name not in OUTPUTS:
            raise UserError(f"--outputs {name}: no such format; choose of {', '.join(OUTPUTS)}")
        output = OUTPUTS[name]
        absent = [library for library in output.needs if find_spec(library) is None]
        if absent:
            remedy = f"pip install anymri[{output.extra}]"
            raise UserError(f"--outputs {name}: needs {', '.join(absent)}, which is not installed; {remedy}")
        if output.from_dicom and not dicom:
            raise UserError(
                f"--outputs {name}: refers to the DICOM series that the study came as, and it did not come as DICOM; "
                f"give the DICOM study, or leave {name} out"
            )
    return chosen


def write_outputs(result: Result, folder: Path, names: Sequence[str], options: OutputOptions) -> None:
    """Write the files of several formats into the folder of a result.

    Parameters
    ----------
    result : Result
    folder : Path
    names : sequence of str
        Of `OUTPUTS`.
    options : OutputOptions
    """
    for name in names:
        OUTPUTS[name].write(result, folder, options)
