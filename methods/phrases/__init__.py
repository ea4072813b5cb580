"""Values of a condition, from the lexicon or a language model."""
