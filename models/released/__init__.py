"""Files of the two original implementations, in and out."""
