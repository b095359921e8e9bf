"""Metrics of segmentation and synthesis in one namespace; lesions, calibration and classification beside them."""

from anymri.evaluation.metrics.segmentation import (
    average_surface_distance,
    bounding_box,
    dice,
    dice_et_min500mm3,
    hausdorff,
    iou,
    normalised_surface_dice,
    precision,
    relative_volume_error,
    sensitivity,
    specificity,
    volume_ml,
)
from anymri.evaluation.metrics.synthesis import data_range, mae, nmse, psnr, ssim, ssim_map

__all__ = [
    "average_surface_distance", "bounding_box", "data_range", "dice", "dice_et_min500mm3", "hausdorff", "iou", "mae",
    "nmse", "normalised_surface_dice", "precision", "psnr", "relative_volume_error", "sensitivity", "specificity",
    "ssim", "ssim_map", "volume_ml",
]  # fmt: skip
