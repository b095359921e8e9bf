"""Data pipeline from image files to batches: index, split, preprocess, cache, sample, load.

Nothing is imported here; every part is a module of its own (``anymri.data.nifti``, ``anymri.data.cache`` ...).
"""
