"""Contrast of phantoms: the MR physics of every sequence and map, and randomised contrast.

`tissues` holds the constants, `protocol` how sequences are run, `signal` the equations, `perfusion` the maps of blood
supply, `randomised` contrast drawn at random; `images` puts them together.
"""

from anymri.phantom.contrast.images import ideal_images, mix, sequence_signals, tissue_signal
from anymri.phantom.contrast.protocol import Protocol, draw_further_protocol, draw_protocols
from anymri.phantom.contrast.randomised import random_signals
from anymri.phantom.contrast.signal import enhanced_t1, inversion_recovery, spin_echo
from anymri.phantom.contrast.tissues import BODY, TISSUES, Relaxation, draw_tissues

__all__ = [
    "BODY",
    "TISSUES",
    "Protocol",
    "Relaxation",
    "draw_further_protocol",
    "draw_protocols",
    "draw_tissues",
    "enhanced_t1",
    "ideal_images",
    "inversion_recovery",
    "mix",
    "random_signals",
    "sequence_signals",
    "spin_echo",
    "tissue_signal",
]
