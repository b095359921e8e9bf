"""Building blocks used by two or more methods."""
