"""Which imagined pictures are kept: what critics say of them, and the rules."""
