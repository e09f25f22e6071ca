"""What a pair of towers gives methods besides two features."""

from models.towers.interface import Gift, ImageTower, TextTower


def gifts_of(image: ImageTower, text: TextTower | None) -> frozenset[Gift]:
    """text: None where it is not built, as those that only the hub describes."""
    of_text: set[Gift] = set()
    if text is not None and text.maps:
        of_text.add("text maps")
    if text is not None and text.reads_embeddings:
        of_text.add("names")
    return image.gifts | of_text
