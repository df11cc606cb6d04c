"""Say how the links of a graph are packed into words."""

LANES = 16  # bits of a word: one register of float32
WORDS_AT_ONCE = 8  # words of a node are a multiple of this: as many registers hold their sums
