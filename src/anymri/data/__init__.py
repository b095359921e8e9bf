"""From folders of images to batches: index, split, preprocess, cache, subset samplers, loading."""
