"""What a prediction gives, and its folder: result, files, report."""
