"""Version of anymri."""

__version__ = "0.1.0"
