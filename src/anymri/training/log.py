"""Run logs: ``log.jsonl`` always, TensorBoard if importable, progress bar and ``progress.png``."""

from __future__ import annotations

import json
import math
import os
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from anymri.files import replace_file
from anymri.progress import progress_bar
from anymri.records import read_lines
from anymri.training.run_records import LogRow
from anymri.types import StepOutput

__all__ = ["Meter", "ProgressBar", "RunLog", "draw_progress", "read_log"]


class RunLog:
    """Append-only log of a run, one JSON object per line; also written to TensorBoard where that is installed.

    Parameters
    ----------
    folder : Path
    length : int
        Bytes that count; what a killed process wrote after its last checkpoint is cut off, so that every epoch
        appears once.
    """

    def __init__(self, folder: Path, length: int = 0) -> None:
        self._file = open(folder / "log.jsonl", "a+b")  # noqa: SIM115 - open as long as the run
        self._file.truncate(min(length, os.fstat(self._file.fileno()).st_size))
        self._board = _open_tensorboard(folder)

    def write(self, row: dict[str, Any]) -> None:
        """Append one row; numbers that JSON lacks (NaN, infinity) become null."""
        self._file.write((json.dumps(_plain(row)) + "\n").encode())
        self._file.flush()
        if self._board is not None and "epoch" in row:
            for name, value in _flat(row).items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, row["step"])

    def position(self) -> int:
        """Bytes written so far, safely on the disk."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class Meter:
    """Means of an epoch's loss and terms, kept as tensors so that a GPU is never waited for.

    Parameters
    ----------
    several_turns : bool
        Whether terms carry the name of their turn.
    """

    def __init__(self, several_turns: bool) -> None:
        self.several_turns = several_turns
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.last: Tensor | None = None

    def add(self, turn: str, output: StepOutput) -> None:
        """Take in what a turn gave."""
        terms = {f"{turn}.{name}" if self.several_turns else name: value for name, value in output.logs.items()}
        if output.loss is not None:
            self.last = output.loss.detach()
            terms[f" {turn}"] = self.last
        for name, value in terms.items():
            value = torch.as_tensor(value).detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, Any]:
        """``loss`` (sum over turns, None if every step was skipped) and ``terms``."""
        mean = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        losses = {name.strip(): mean.pop(name) for name in list(mean) if name.startswith(" ")}
        if self.several_turns:
            mean.update({f"{turn}.loss": value for turn, value in losses.items()})
        return {"loss": sum(losses.values()) if losses else None, "terms": mean}


class ProgressBar:
    """Bar with loss and remaining time on the terminal; shows nothing when `visible` is False.

    Parameters
    ----------
    title : str
    total, done : int
        Steps of the whole run, and those a resumed run has behind it.
    visible : bool
    """

    def __init__(self, title: str, total: int, done: int, visible: bool) -> None:
        self._context = progress_bar(title, total, visible, done=done, note="loss -", transient=False)
        self._visible = visible
        self._shown = 0.0

    def __enter__(self) -> Self:
        self._bar = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def advance(self, title: str, loss: Any) -> None:
        """One step more. `loss` is a tensor or None; it is read at most twice a second, as reading waits for a GPU."""
        if not self._visible:
            return
        note = None
        if loss is not None and time.monotonic() - self._shown > 0.5:
            self._shown = time.monotonic()
            note = f"loss {float(loss):.4f}"
        self._bar.advance(title, note)

    def say_dropped(self, dropped: dict[str, int], where: str = "") -> None:
        """Say how many subjects were left out and why."""
        for reason, count in dropped.items():
            self.say(f"{count} training subjects left out{where}: {reason}")

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self._bar.say(text)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``log.jsonl``; a half-written last line is left out.

    Raises
    ------
    UserError
        If a line is damaged or a value in it does not fit.
    """
    path = folder / "log.jsonl"
    return read_lines(path, LogRow, "remove the line or the file") if path.exists() else []


def draw_progress(folder: Path) -> None:
    """Draw loss terms and validation Dice or PSNR over the epochs from ``log.jsonl`` into ``progress.png``."""
    from matplotlib.figure import Figure

    rows = [row for row in read_log(folder) if "epoch" in row and "terms" in row]
    if not rows:
        return
    # Epochs are counted over all stages.
    for position, row in enumerate(rows, start=1):
        row["position"] = position
    validated = [row for row in rows if row.get("validation")]
    figure = Figure(figsize=(11, 4.2) if validated else (6, 4.2), layout="constrained")
    axes = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    _draw_losses(axes[0], rows)
    if validated:
        _draw_validation(axes[1], validated)
    with replace_file(folder / "progress.png") as file:
        figure.savefig(file, dpi=110, format="png")


def _draw_losses(axis: Any, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["terms"]))
    positive = True
    for name in ["loss", *(name for name in names if name != "loss")]:
        points = [
            (row["position"], row["terms"].get(name, row.get("loss") if name == "loss" else None)) for row in rows
        ]
        points = [(x, y) for x, y in points if y is not None]
        if not points:
            continue
        positive = positive and all(y > 0 for _, y in points)
        style = {"color": "black", "linewidth": 1.8} if name == "loss" else {"linewidth": 1.0}
        axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) == 1 else None, **style)
    if positive:
        axis.set_yscale("log")
        # Penalties far below the loss would flatten every other line.
        axis.set_ylim(bottom=max(axis.get_ylim()[0], axis.get_ylim()[1] * 1e-4))
    axis.set(xlabel="epoch", title="training loss, mean of the epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _draw_validation(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Mean over regions or sequences: one thin line per subset, coloured by its number of modalities, and the mean."""
    from matplotlib import colormaps

    subsets = list(rows[-1]["validation"])
    most = max(subset.count("+") for subset in subsets) + 1
    seen: set[int] = set()
    for subset in subsets:
        size = subset.count("+") + 1
        points = [
            (row["position"], _mean(row["validation"][subset].values())) for row in rows if subset in row["validation"]
        ]
        label = None if size in seen else f"{size} modalit{'y' if size == 1 else 'ies'}"
        seen.add(size)
        colour = colormaps["viridis"](0.92 * (1 - (size - 1) / max(most - 1, 1)))
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=0.9, label=label, marker=".", markersize=3)
    means = [_mean(value for regions in row["validation"].values() for value in regions.values()) for row in rows]
    axis.plot(
        [row["position"] for row in rows], means, color="black", linewidth=2, marker="o", markersize=3, label="mean"
    )
    if rows[-1].get("validation_metric") == "PSNR":
        axis.set(title="validation PSNR (dB) of each subset, mean of sequences")
    else:
        axis.set(ylim=(0, 1), title="validation Dice of each subset, mean of regions")
    axis.set(xlabel="epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize=8, loc="lower right")


def _mean(values: Any) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat.update(_flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _open_tensorboard(folder: Path) -> Any:
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))
