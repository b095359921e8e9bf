"""Batch prediction of many studies: listing, workers, records of what is done, one table and one page."""
