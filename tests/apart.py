"""Calls in processes of their own, forked from one that imported torch once: a start takes no seconds."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

__all__ = ["SERVER", "apart"]

#: The process that is forked has trained and drawn nothing. It begins with the first call, once a test session.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["anymri.benchmark", "anymri.cli", "anymri.phantom", "anymri.training.loop", "matplotlib.figure"]
)


def apart(call, *arguments):
    """What a call gives, or raises, in a new process with this one's search path."""
    with ProcessPoolExecutor(1, mp_context=SERVER) as process:
        return process.submit(call, *arguments).result()
