"""The embedded world: concepts, sprites, three kinds of scenes, the grammar, the tiny CLIP."""
