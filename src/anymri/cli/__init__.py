"""The command ``anymri``: one module of verbs per room, registered by `app`."""

from anymri.cli.app import app, main

__all__ = ["app", "main"]
