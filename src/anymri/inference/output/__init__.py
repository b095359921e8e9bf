"""Prediction output: result, files in a folder, report."""
