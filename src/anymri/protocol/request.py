"""Request: what a prediction is asked for, handed from the window walk to `Method.decode`."""

from __future__ import annotations

from dataclasses import dataclass

from anymri.protocol.noise import Noise

__all__ = ["EVERYTHING", "Request"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Request of one prediction: what `Method.decode` is to compute.

    Parameters
    ----------
    outputs : tuple of {"logits", "image", "class_logits", "modality_logits"} or None, default=None
        None = all of `Method.outputs`.
    noise : Noise or None, default=None
        Numbers to sample with; None = the method's mean, without any randomness.
    steps : int or None, default=None
        Steps of an iterative sampler; None = as many as the method's settings say. Others ignore it.
    """

    outputs: tuple[str, ...] | None = None
    noise: Noise | None = None
    steps: int | None = None

    def wants(self, output: str) -> bool:
        """Whether an output is asked for."""
        return self.outputs is None or output in self.outputs


#: All outputs, without noise.
EVERYTHING = Request()
