"""Names for concepts without a labelled image, and what a discovery is worth."""
