"""Entry points of earlier versions: each says in one line what stands in its place."""
