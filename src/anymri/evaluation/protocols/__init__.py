"""Protocols: the published rules of scoring as named objects, and their replay on finished predictions."""

from anymri.evaluation.protocols.table import PROTOCOLS, Box, Crop, Protocol, Windows

__all__ = ["PROTOCOLS", "Box", "Crop", "Protocol", "Windows"]
