"""Names and the texts around them as tokens, one file per kind of tokenizer."""
