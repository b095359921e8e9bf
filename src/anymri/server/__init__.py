"""Server of `anymri serve`: studies over HTTP and DICOMweb, a queue that survives everything, and the page."""
