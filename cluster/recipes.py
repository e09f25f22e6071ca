"""The recipe versions of all kinds of artifacts, which are part of their hashes.

Raise a kind's number with every change that alters the bytes of its artifacts, so that those of
before are made again instead of being taken for done.
"""

RECIPES = {
    "adapted": 4,
    "captions": 2,
    "clip": 1,
    "critique": 3,
    "curation": 1,
    "dataset": 2,
    "discovery": 3,
    "encoding": 1,
    "factors": 3,
    "features": 4,
    "images": 2,
    "model": 1,
    "report": 6,
    "results": 6,
    "teacher": 3,
}
"""Kind of artifact to the version of how it is made. What goes into the identity of a *row* has a
name of its own beside the code that makes it (such as "sprites-3")."""
