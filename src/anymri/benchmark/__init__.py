"""The report over results tables, and the demonstration."""
