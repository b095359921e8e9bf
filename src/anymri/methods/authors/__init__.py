"""Authors' checkpoints: one table of translation per published release, found by the name of its method."""
