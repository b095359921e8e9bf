"""Verb phantom: make digital patients."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Json, Quiet, Seed, Workers, numbers, say, writes
from anymri.errors import UserError

Subjects = Annotated[int, typer.Option("--subjects", "-n", min=1, max=100_000, help="How many subjects.")]
Spacing = Annotated[
    float | None, typer.Option("--spacing", help="Isotropic voxel edge in mm; default: 2, of an abdomen 3.")
]
AnatomyName = Annotated[
    str, typer.Option("--anatomy", help="Brains plain or varied (wider, with deep nuclei); or abdomen.")
]
Pathology = Annotated[
    str,
    typer.Option(
        "--pathology",
        help="glioma, glioma_resected, metastases, multiple_sclerosis, wmh, stroke, stroke_subacute or none.",
    ),
]
LayoutName = Annotated[
    str | None, typer.Option("--layout", help="On-disk layout; default: brats2023, folder or chaos, whichever fits.")
]
Modalities = Annotated[
    str | None,
    typer.Option("--modalities", help="Sequences, e.g. t1,t2,dwi,adc,tmax; by default those of the layout."),
]
Contrast = Annotated[str, typer.Option("--contrast", help="physics, or random (domain randomisation).")]
Protocol = Annotated[
    list[str] | None,
    typer.Option("--protocol", help="MODALITY:QUANTITY=NUMBER, e.g. flair:ti_ms=2200, dwi:b_s_mm2=800; repeatable."),
]
ScannerName = Annotated[
    str, typer.Option("--scanner", help="plain, or varied: resolution, gaps and filters as makers differ.")
]
Grade = Annotated[str, typer.Option("--grade", help="Of gliomas: mixed, low or high.")]
CoreShare = Annotated[
    str | None, typer.Option("--core-share", help="Of gliomas: LOW,HIGH share that is core, e.g. 0.03,0.9.")
]
Artifact = Annotated[
    list[str] | None,
    typer.Option("--artifact", help="NAME=STRENGTH (0 to 1) or MODALITY:NAME=STRENGTH; repeatable."),
]
ArtifactRate = Annotated[float, typer.Option("--artifact-rate", help="Share of images with one more, random artifact.")]
Skull = Annotated[bool, typer.Option("--skull", help="The whole head, not stripped.")]
Unaligned = Annotated[
    bool, typer.Option("--unaligned", help="Each sequence on a grid of its own, the head moved; with --skull.")
]
Missing = Annotated[
    list[str] | None, typer.Option("--missing", help="MODALITY=RATE of subjects that lack it; repeatable.")
]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="Frozen recipe, e.g. phantom40; checksums verified.")]


@writes("out", kept="finished subjects are kept; the same command completes the data set")
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder of the new data set.")],
    subjects: Subjects = 3,
    seed: Seed = 0,
    spacing: Spacing = None,
    anatomy: AnatomyName = "plain",
    pathology: Pathology = "glioma",
    layout: LayoutName = None,
    modalities: Modalities = None,
    contrast: Contrast = "physics",
    protocol: Protocol = None,
    scanner: ScannerName = "plain",
    grade: Grade = "mixed",
    core_share: CoreShare = None,
    artifact: Artifact = None,
    artifact_rate: ArtifactRate = 0.0,
    skull: Skull = False,
    unaligned: Unaligned = False,
    missing: Missing = None,
    recipe: RecipeName = None,
    workers: Workers = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a data set of digital patients with known anatomy and pathology.

    Example: anymri phantom brains --subjects 10 --seed 1 --missing t1c=0.3

    Example: anymri phantom strokes --pathology stroke --layout isles2015
    """
    from anymri.phantom import PhantomSettings, default_layout, generate, generate_abdomens, generate_recipe

    if recipe:
        folder = generate_recipe(recipe, out, workers=workers, progress=not quiet)
        say(as_json, {"folder": folder, "recipe": recipe}, f"wrote {recipe} to {folder}")
        return
    if anatomy == "abdomen":
        brain_only = {
            "--pathology": pathology != "glioma", "--modalities": modalities, "--contrast": contrast != "physics",
            "--protocol": protocol, "--scanner": scanner != "plain", "--grade": grade != "mixed", "--skull": skull,
            "--artifact": artifact, "--artifact-rate": artifact_rate, "--unaligned": unaligned, "--missing": missing,
            "--core-share": core_share,
        }  # fmt: skip
        if given := [name for name, value in brain_only.items() if value]:
            raise UserError(f"{given[0]} is for brains; leave it out, or choose --anatomy plain or varied")
        folder = generate_abdomens(
            out, subjects, seed, spacing or 3.0, layout=layout or "chaos", workers=workers, progress=not quiet
        )
    else:
        settings = PhantomSettings(
            spacing_mm=2.0 if spacing is None else spacing, anatomy=anatomy, pathology=pathology, contrast=contrast,
            grade=grade, artifacts=numbers(artifact, "--artifact", "flair:motion=0.5"), artifact_rate=artifact_rate,
            protocols=numbers(protocol, "--protocol", "flair:ti_ms=2200"), scanner=scanner, skull=skull,
            unaligned=unaligned, core_share=None if core_share is None else _two_shares(core_share),
            modalities=None if modalities is None else tuple(code.strip() for code in modalities.split(",")),
        )  # fmt: skip
        folder = generate(
            out, subjects, seed, settings, layout=layout or default_layout(settings),
            missing=numbers(missing, "--missing", "t1c=0.3") or None, workers=workers, progress=not quiet,
        )  # fmt: skip
    say(
        as_json,
        {"folder": folder, "subjects": subjects, "seed": seed},
        f"wrote {subjects} subjects (seed {seed}) to {folder}",
    )


def _two_shares(text: str) -> tuple[float, float]:
    """Read ``0.03,0.9``."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UserError(f"--core-share {text}: not two numbers; write e.g. --core-share 0.03,0.9") from None
    return low, high
