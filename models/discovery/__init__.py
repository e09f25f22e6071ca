"""Names for concepts without a labelled image: clusters of images, names of clusters, ZSNL."""
