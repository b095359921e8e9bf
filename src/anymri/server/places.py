"""Places in the data folder: made of identifiers that the server drew, never of what a request says."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from anymri.files import make_folder

__all__ = ["Places", "is_identifier", "new_identifier"]

_IDENTIFIER = re.compile(r"[0-9a-f]{32}")


def new_identifier() -> str:
    """An identifier that nobody can guess: 128 random bits."""
    return secrets.token_hex(16)


def is_identifier(text: str) -> bool:
    """Whether a text may be an identifier; anything else names nothing."""
    return _IDENTIFIER.fullmatch(text) is not None


class Places:
    """Folders and files of a data folder.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming, self.studies, self.scratch = root / "incoming", root / "studies", root / "scratch"
        self.database = root / "anymri.sqlite3"

    def make(self) -> None:
        """Create the folders; what an earlier server left half-way goes.

        Raises
        ------
        UserError
            If the disk refuses.
        """
        for folder in (self.incoming, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.root, self.incoming, self.scratch, self.studies):
            make_folder(folder)
        self.root.chmod(0o700)

    def study(self, study: str) -> Path:
        """Folder of a study."""
        return self.studies / study

    def upload(self, study: str) -> Path:
        """What was sent, as it was sent."""
        return self.study(study) / "upload"

    def images(self, study: str) -> Path:
        """Images for viewers, of series that came as DICOM."""
        return self.study(study) / "images"

    def result(self, study: str, run: str) -> Path:
        """Result folder of a run."""
        return self.study(study) / "runs" / run

    def remove(self, study: str) -> None:
        """Remove all files of a study: out of sight at once, then from the disk."""
        place = self.study(study)
        aside = self.incoming / f"{study}.gone"
        try:
            place.rename(aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    def orphans(self, known: set[str], older_s: float = 0.0) -> list[str]:
        """Folders of studies that the store does not know, of at least some age."""
        found = []
        for path in self.studies.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in known and time.time() - path.stat().st_mtime >= older_s:
                    found.append(path.name)
        return found
