"""Print how far our metrics are from other programs', on 200 random pairs and on hand-made cases, as Markdown.

    python benchmarks/metrics_agreement.py

The pairs and the definitions written out by hand are those of ``tests/evaluation/by_hand.py``. DeepMind's
surface-distance takes part where it is installed (``pip install surface-distance absl-py``). A few seconds.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))

from by_hand import Pair, hand_made, lesion_dice, random_batches, surface_distances_mm

from anymri.evaluation import calibration, classification, metrics
from anymri.evaluation.metrics.lesionwise import LesionRule, lesionwise

#: Values of one metric on the same inputs, ours and a peer's, with why they differ.
Line = tuple[Any, ...]  # metric, peer, ours, theirs, why
#: Spacing, and pairs of a prediction and its reference.
Batches = list[tuple[tuple[float, ...], list[Any]]]

FLOAT32 = "it computes in float32"
ROUNDING = "rounding"
AREA = "it weighs surface elements by their area; ours counts surface voxels"
#: No distance between voxel centres of the grids equals it, so that rounding does not decide what lies within.
TOLERANCE_MM = 1.45


def flat(batches: Batches, score: Callable[..., Any]) -> list[Any]:
    """One value for each of the 200 pairs."""
    return [score(pair, spacing) for spacing, pairs in batches for pair in pairs]


def overlaps(batches: Batches) -> Iterator[Line]:
    """Dice, IoU, sensitivity, precision and specificity against MONAI and scikit-learn."""
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
    from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

    monai = {
        "dice": "f1 score",
        "iou": "threat score",
        "sensitivity": "sensitivity",
        "precision": "precision",
        "specificity": "specificity",
    }
    learn = {"dice": f1_score, "iou": jaccard_score, "sensitivity": recall_score, "precision": precision_score}
    tables = [get_confusion_matrix(*tensors(pairs)) for _, pairs in batches]
    for name, theirs in monai.items():
        ours = flat(batches, lambda pair, _, name=name: getattr(metrics, name)(*pair))
        found = torch.cat([compute_confusion_matrix_metric(theirs, table) for table in tables])[:, 0].tolist()
        yield f"`{name}`", "MONAI", ours, found, FLOAT32
        if name in learn:
            score = learn[name]
            values = flat(batches, lambda pair, _, score=score: score(pair[1].ravel(), pair[0].ravel()))
            yield f"`{name}`", "scikit-learn", ours, values, ROUNDING


def distances(batches: Batches) -> Iterator[Line]:
    """Surface distances against MONAI and the definition by hand, all pairs of surface voxels tried."""
    from monai.metrics import compute_average_surface_distance as asd
    from monai.metrics import compute_hausdorff_distance as hd
    from monai.metrics import compute_surface_dice as nsd

    ours, monai, hand = our_distances(batches), {}, {}
    monai["hd"] = gather(batches, lambda p, r, mm: hd(p, r, include_background=True, spacing=mm))
    monai["hd95"] = gather(batches, lambda p, r, mm: hd(p, r, include_background=True, percentile=95, spacing=mm))
    monai["asd"] = gather(batches, lambda p, r, mm: asd(p, r, include_background=True, symmetric=True, spacing=mm))
    monai["nsd"] = gather(batches, lambda p, r, mm: nsd(p, r, [TOLERANCE_MM], include_background=True, spacing=mm))
    pairs = flat(batches, lambda pair, spacing: surface_distances_mm(pair, spacing))
    hand["hd"] = [max(to_r.max(), to_p.max()) for to_r, to_p in pairs]
    hand["hd95"] = [max(np.percentile(to_r, 95), np.percentile(to_p, 95)) for to_r, to_p in pairs]
    hand["asd"] = [np.concatenate(both).mean() for both in pairs]
    hand["nsd"] = [(np.concatenate(both) <= TOLERANCE_MM).mean() for both in pairs]
    titles = {"hd": "`hd`, mm", "hd95": "`hd95`, mm", "asd": "`asd`, mm", "nsd": f"surface Dice at {TOLERANCE_MM} mm"}
    for name, title in titles.items():
        yield title, "definition by hand", ours[name], hand[name], ROUNDING
        yield title, "MONAI", ours[name], monai[name], FLOAT32
    yield from by_area(batches, ours, titles)
    yield from hausdorff_in_voxels(batches)


def by_area(batches: Batches, ours: dict[str, list[float]], titles: dict[str, str]) -> Iterator[Line]:
    """The published surface Dice and its relatives, which weigh surface elements by area."""
    from monai.metrics import compute_surface_dice as nsd

    area: dict[str, Any] = {"include_background": True, "use_subvoxels": True}
    found = gather(batches, lambda p, r, mm: nsd(p, r, [TOLERANCE_MM], spacing=mm, **area))
    yield titles["nsd"], "MONAI with `use_subvoxels`", ours["nsd"], found, AREA
    if importlib.util.find_spec("surface_distance") is None:
        return
    yield from deepmind(batches, ours, titles, "")
    tumours: Batches = [((1.0, 1.0, 1.0), [tumour_pair(seed) for seed in range(50)])]
    yield from deepmind(tumours, our_distances(tumours), titles, ", masks of tumour size")


def tumour_pair(seed: int) -> Pair:
    """Two smooth masks of 2 to 5 ml in an image of 40 x 40 x 40 voxels."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    smooth, other = (gaussian_filter(rng.normal(size=(40, 40, 40)), 4, mode="constant") for _ in range(2))
    other = smooth + 0.3 * other
    level = 1 - rng.uniform(2000, 5000) / smooth.size
    return smooth >= np.quantile(smooth, level), other >= np.quantile(other, level)


def deepmind(batches: Batches, ours: dict[str, list[float]], titles: dict[str, str], what: str) -> Iterator[Line]:
    """DeepMind's surface-distance, the published definition."""
    import surface_distance as theirs

    measured = flat(batches, lambda pair, mm: theirs.compute_surface_distances(pair[1], pair[0], mm))
    peer = "DeepMind surface-distance" + what
    values = [theirs.compute_surface_dice_at_tolerance(one, TOLERANCE_MM) for one in measured]
    yield titles["nsd"], peer, ours["nsd"], values, AREA
    for name, percent in (("hd", 100), ("hd95", 95)):
        values = [theirs.compute_robust_hausdorff(one, percent) for one in measured]
        yield titles[name], peer, ours[name], values, "area again; its surface lies between voxels"


def hausdorff_in_voxels(batches: Batches) -> Iterator[Line]:
    """scikit-image's Hausdorff distance, which knows no spacing, of the masks' surfaces and of the masks."""
    from skimage.metrics import hausdorff_distance

    ours = flat(batches, lambda pair, _: metrics.hausdorff(pair[0], pair[1], (1, 1, 1), 100))
    surfaces = flat(batches, lambda pair, _: hausdorff_distance(*(metrics._surface(mask) for mask in pair)))
    whole = flat(batches, lambda pair, _: hausdorff_distance(*pair))
    why = "it takes all voxels of a mask, not the surface"
    yield "`hd`, voxels", "scikit-image, given the surfaces", ours, surfaces, ROUNDING
    yield "`hd`, voxels", "scikit-image, given the masks", ours, whole, why


def lesions(batches: Batches) -> Iterator[Line]:
    """Lesion-wise Dice against BraTS 2023's rules written out with sets of voxels, on the 50 pairs of 1 mm voxels."""
    pairs = [pair for spacing, group in batches if set(spacing) == {1.0} for pair in group]
    rule = LesionRule(dilation_mm=1, ignore_mm3=4)
    ours = [lesionwise(pair[0], pair[1], (1, 1, 1), rule, hd95=False).dice for pair in pairs]
    hand = [lesion_dice(pair[0], pair[1], steps=1, ignore=4)[0] for pair in pairs]
    yield "`lesion_dice`", "published rules by hand", ours, hand, ROUNDING


def images(count: int = 200) -> Iterator[Line]:
    """Synthesis metrics against scikit-image, on 200 pairs of noisy images with a background."""
    from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

    found: dict[str, list[tuple[float, float]]] = {"mae": [], "nmse": [], "psnr": [], "ssim": [], "mean": []}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        real, brain = rng.normal(size=(14, 13, 12)), np.zeros((14, 13, 12), bool)
        brain[2:12, 2:11, 2:10] = True
        real = np.where(brain, real, 0)
        image = np.where(brain, real + rng.uniform(0.05, 1) * rng.normal(size=real.shape), 0)
        width = metrics.data_range(real, brain)
        x, y = image[brain], real[brain]
        mean, every = structural_similarity(real, image, data_range=width, full=True)
        found["mae"].append((metrics.mae(image, real, brain), float(np.abs(x - y).mean())))
        found["nmse"].append((metrics.nmse(image, real, brain), normalized_root_mse(y, x) ** 2))
        found["psnr"].append((metrics.psnr(image, real, brain, width), peak_signal_noise_ratio(y, x, data_range=width)))
        found["ssim"].append((metrics.ssim(image, real, brain, width), float(every[brain].mean())))
        found["mean"].append((metrics.ssim(image, real, brain, width), float(mean)))
    columns = {name: tuple(zip(*values, strict=True)) for name, values in found.items()}
    yield "`mae`", "definition by hand", *columns["mae"], ROUNDING
    yield "`nmse`", "scikit-image, NRMSE squared", *columns["nmse"], ROUNDING
    yield "`psnr`, dB", "scikit-image", *columns["psnr"], ROUNDING
    yield "`ssim`", "scikit-image, its map averaged in the brain", *columns["ssim"], ROUNDING
    yield "`ssim`", "scikit-image, its own mean", *columns["mean"], "it averages the whole image, background too"


def probabilities(count: int = 200) -> Iterator[Line]:
    """Calibration, Brier score and classes against scikit-learn and the definition by hand."""
    from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

    found: dict[str, list[tuple[float, float]]] = {"brier": [], "ece": [], "auroc": [], "accuracy": []}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        score = np.round(rng.uniform(size=int(rng.integers(4, 60))), 1)  # many ties
        truth = rng.uniform(size=score.size) < 0.4
        truth[:2] = (True, False)
        classes, guess = rng.integers(0, 3, score.size), rng.integers(0, 3, score.size)
        found["brier"].append((calibration.brier(score, truth), brier_score_loss(truth, score)))
        found["ece"].append((calibration.expected_calibration_error(score, truth), gap_by_hand(score, truth)))
        found["auroc"].append((classification.auroc(score, truth), roc_auc_score(truth, score)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a predicted class that does not occur
            theirs = balanced_accuracy_score(classes, guess)
        found["accuracy"].append((classification.balanced_accuracy(guess, classes), theirs))
    columns = {name: tuple(zip(*values, strict=True)) for name, values in found.items()}
    yield "`brier`", "scikit-learn", *columns["brier"], ROUNDING
    yield "`ece`", "definition by hand", *columns["ece"], ROUNDING
    yield "`auroc`", "scikit-learn", *columns["auroc"], ROUNDING
    yield "`balanced_accuracy`", "scikit-learn", *columns["accuracy"], ROUNDING


def gap_by_hand(score: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error, bin by bin."""
    total = 0.0
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        inside = [k for k, p in enumerate(score) if low < p <= high or (i == 0 and p == 0)]
        if inside:
            mean, share = sum(score[k] for k in inside) / len(inside), sum(truth[k] for k in inside) / len(inside)
            total += len(inside) / len(score) * abs(mean - share)
    return total


# --------------------------------------------------------------------------------------------------------------
# The tables
# --------------------------------------------------------------------------------------------------------------


def tensors(pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and references (N, 1, D, H, W)."""
    predictions, references = (torch.tensor(np.stack(masks)[:, None]).float() for masks in zip(*pairs, strict=True))
    return predictions, references


def gather(batches: Batches, score: Callable[..., torch.Tensor]) -> list[float]:
    """A MONAI metric of all batches."""
    return [float(v) for mm, pairs in batches for v in score(*tensors(pairs), list(mm)).reshape(-1)]


def our_distances(batches: Batches) -> dict[str, list[float]]:
    """Our surface distances of all pairs."""
    return {
        "hd": flat(batches, lambda pair, mm: metrics.hausdorff(pair[0], pair[1], mm, 100)),
        "hd95": flat(batches, lambda pair, mm: metrics.hausdorff(pair[0], pair[1], mm)),
        "asd": flat(batches, lambda pair, mm: metrics.average_surface_distance(pair[0], pair[1], mm)),
        "nsd": flat(batches, lambda pair, mm: metrics.normalised_surface_dice(pair[0], pair[1], mm, TOLERANCE_MM)),
    }


def random_table() -> str:
    """Largest difference of every metric and peer."""
    batches = random_batches()
    lines = ["| Metric | Peer | Pairs | Largest difference | Mean difference | Why |", "|---|---|---:|---:|---:|---|"]
    for part in (overlaps(batches), distances(batches), lesions(batches), images(), probabilities()):
        for metric, peer, ours, theirs, why in part:
            a, b = np.asarray(ours, float), np.asarray(theirs, float)
            gap = np.abs(a - b)
            reason = why if gap.any() else "-"
            lines.append(f"| {metric} | {peer} | {len(a)} | {gap.max():.1e} | {gap.mean():.1e} | {reason} |")
    return "\n".join(lines) + "\n"


def hand_made_table() -> str:
    """Dice, HD95, ASD and surface Dice of the hand-made cases, ours and MONAI's where it differs."""
    head = ["Case", "Dice", "HD95, mm", "ASD, mm", f"surface Dice at {TOLERANCE_MM} mm", "MONAI says otherwise"]
    lines = ["| " + " | ".join(head) + " |", "|---|---:|---:|---:|---:|---|"]
    for case, (p, r, spacing) in hand_made().items():
        batch: Batches = [(spacing, [(p, r)])]
        found = {name: values[0] for name, values in our_distances(batch).items() if name != "hd"}
        ours = {"Dice": metrics.dice(p, r), "HD95": found["hd95"], "ASD": found["asd"], "surface Dice": found["nsd"]}
        theirs = monai_on(batch)
        other = [f"{name} {theirs[name]:g}" for name in ours if not np.isclose(ours[name], theirs[name], atol=1e-5)]
        cells = [case, *(f"{value:.4g}" for value in ours.values()), ", ".join(other) or "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def monai_on(batch: Batches) -> dict[str, float]:
    """MONAI's values of one pair, for the same names."""
    from monai.metrics import compute_average_surface_distance as asd
    from monai.metrics import compute_dice as dice
    from monai.metrics import compute_hausdorff_distance as hd
    from monai.metrics import compute_surface_dice as nsd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of empty masks
        every: dict[str, Any] = {"include_background": True, "spacing": list(batch[0][0])}
        return {
            "Dice": gather(batch, lambda p, r, _: dice(p, r))[0],
            "HD95": gather(batch, lambda p, r, _: hd(p, r, percentile=95, **every))[0],
            "ASD": gather(batch, lambda p, r, _: asd(p, r, symmetric=True, **every))[0],
            "surface Dice": gather(batch, lambda p, r, _: nsd(p, r, [TOLERANCE_MM], **every))[0],
        }


def main() -> None:
    """Print both tables and the versions."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    peers = ["monai", "scikit-image", "scikit-learn"]
    peers += ["surface-distance"] if importlib.util.find_spec("surface_distance") else []
    print(random_table())
    print(hand_made_table())
    print("Versions: " + ", ".join(f"{name} {version(name)}" for name in peers))


if __name__ == "__main__":
    main()
