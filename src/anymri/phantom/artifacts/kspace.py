"""k-space artifacts: motion, ghosting, spikes, ringing.

Every function takes a magnitude image (D, H, W) and returns one. Frequencies are those of the discrete transform of the
given array, so the array is the field of view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import fft

__all__ = [
    "FILTERS",
    "clip_samples",
    "filter_slices",
    "fold_over",
    "ghost",
    "join_poses",
    "stripes",
    "truncate",
    "zipper",
]


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """Shape a vector so that it broadcasts along one axis of a volume."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.reshape(shape)


def join_poses(images: Sequence[np.ndarray], pose: np.ndarray, axis: int) -> np.ndarray:
    """Motion: each line of k-space was measured while the head had one of several poses.

    Parameters
    ----------
    images : sequence of ndarray, shape (D, H, W)
        The head in each pose.
    pose : ndarray of int, shape (size of `axis`,)
        Which image each phase-encoding line comes from; from the most negative frequency to the highest.
    axis : int
        Phase-encoding direction.

    Notes
    -----
    Lines along the readout direction are fast beside motion: they are whole, so that one transform along the
    phase-encoding direction is enough.
    """
    pose = np.fft.ifftshift(np.asarray(pose))
    lines: np.ndarray | float = 0.0
    for number, image in enumerate(images):
        lines = lines + fft.fft(image, axis=axis) * _along(pose == number, axis)
    return np.abs(fft.ifft(lines, axis=axis))


def ghost(image: np.ndarray, axis: int, period: int, amplitude: float) -> np.ndarray:
    """Ghosting: pulsation modulates the lines of k-space with a period, which repeats the image.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    axis : int
        Phase-encoding direction.
    period : int
        In lines, 2 or more: ghosts appear at plus and minus ``size / period`` voxels, wrapped around.
    amplitude : float
        Relative modulation; each ghost has half of it (with period 2 the two coincide).
    """
    index = np.rint(fft.fftfreq(image.shape[axis]) * image.shape[axis])
    modulation = 1 + amplitude * np.cos(2 * np.pi * index / period)
    return np.abs(fft.ifft(fft.fft(image, axis=axis) * _along(modulation, axis), axis=axis))


def stripes(
    image: np.ndarray, frequency: tuple[int, int, int], amplitude: float, phase: float, slices: np.ndarray, axis: int
) -> np.ndarray:
    """Spike: a discharge falsifies one sample of k-space, which lays a wave over the slice.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    frequency : tuple of int
        Periods of the wave over the field of view along D, H, W: the position of the sample; 0 along `axis`.
    amplitude : float
        Of the wave, in units of the image.
    phase : float
        In radians.
    slices : ndarray of bool
        Which slices along `axis` are hit.
    axis : int
        Slice direction.
    """
    turn = phase + sum(
        _along(2 * np.pi * count * np.arange(size) / size, i)
        for i, (count, size) in enumerate(zip(frequency, image.shape, strict=True))
    )
    return np.abs(image + amplitude * np.exp(1j * turn) * _along(slices, axis))


def zipper(generator: np.random.Generator, image: np.ndarray, column: int, axis: int, amplitude: float) -> np.ndarray:
    """Zipper: radio waves from outside at one frequency, a dotted line across the phase-encoding direction.

    Parameters
    ----------
    generator : numpy.random.Generator
    image : ndarray, shape (D, H, W)
    column : int
        Where along the readout direction.
    axis : int
        Readout direction.
    amplitude : float
        Mean square of the interference, in units of the image.
    """
    shape = list(image.shape)
    shape[axis] = 1
    real, imaginary = generator.standard_normal((2, *shape)) * amplitude / np.sqrt(2)
    line = _along(np.exp(-(((np.arange(image.shape[axis]) - column) / 0.8) ** 2)), axis)
    return np.abs(image + (real + 1j * imaginary) * line)


def truncate(image: np.ndarray, axes: tuple[int, int], kept: float) -> np.ndarray:
    """Gibbs ringing: only the middle share `kept` of k-space is measured along `axes`, the rest filled with zeros."""
    samples = fft.fft2(image, axes=axes)
    for axis in axes:
        samples = samples * _along(np.abs(fft.fftfreq(image.shape[axis])) <= 0.5 * kept, axis)
    return np.abs(fft.ifft2(samples, axes=axes))


#: Windows over k-space by their name; 0 is its middle, 1 its measured edge, beyond which nothing is left.
FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda k: np.ones_like(k),
    "hann": lambda k: 0.5 * (1 + np.cos(np.pi * np.minimum(k, 1))),
    "fermi": lambda k: 1 / (1 + np.exp((k - 0.85) / 0.06)),
    "sharpened": lambda k: (1 + 0.7 * k**2) / (1 + np.exp((k - 0.85) / 0.06)),
}


def filter_slices(
    image: np.ndarray, axes: tuple[int, int], in_plane_mm: float, spacing_mm: float, name: str
) -> np.ndarray:
    """The image as measured with voxels of a width within its slices, filtered, and interpolated back with zeros.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    axes : tuple of int
        The two directions within a slice.
    in_plane_mm, spacing_mm : float
        Width of a measured voxel and of the picture's. A smaller one loses nothing but by the filter.
    name : str
        One of `FILTERS`.
    """
    margin = [(0, 0)] * 3
    for axis in axes:  # so that one side does not leak into the other
        margin[axis] = (4, 4)
    samples = fft.fft2(np.pad(image, margin), axes=axes)
    for axis in axes:
        place = np.abs(fft.fftfreq(samples.shape[axis])) * 2 * in_plane_mm / spacing_mm
        samples = samples * _along(np.where(place <= 1, FILTERS[name](place), 0.0), axis)
    inside = tuple(slice(low, size - high) for (low, high), size in zip(margin, samples.shape, strict=True))
    return fft.ifft2(samples, axes=axes).real[inside]


def clip_samples(image: np.ndarray, axes: tuple[int, int], limit: float) -> tuple[np.ndarray, float]:
    """RF overflow: the receiver's gain is too high, the strongest samples of k-space are cut off.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    axes : tuple of int
        The two directions within a slice.
    limit : float
        Largest real or imaginary part, relative to the largest of the whole volume; 1 changes nothing.

    Returns
    -------
    image : ndarray
        Washed out: contrast of large structures and mean signal are lost, edges and a halo remain.
    clipped : float
        Share of all signal energy that was cut off.
    """
    samples = fft.fft2(image, axes=axes)
    largest = limit * max(np.abs(samples.real).max(), np.abs(samples.imag).max())
    cut = np.clip(samples.real, -largest, largest) + 1j * np.clip(samples.imag, -largest, largest)
    energy = float((np.abs(samples) ** 2).sum())
    clipped = 1 - float((np.abs(cut) ** 2).sum()) / energy if energy else 0.0
    return np.abs(fft.ifft2(cut, axes=axes)), clipped


def fold_over(image: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    """Wrap-around: what lies outside the field of view ``[start, stop)`` appears on its other side; 0 outside of it."""
    source = np.moveaxis(image, axis, 0)
    folded = np.zeros_like(source)
    place = (np.arange(source.shape[0]) - start) % (stop - start) + start
    np.add.at(folded, place, source)
    return np.moveaxis(folded, 0, axis)
