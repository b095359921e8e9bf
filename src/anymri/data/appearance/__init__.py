"""Which sequence a brain image looks like, by its anatomy alone: no file name and no header is asked."""
