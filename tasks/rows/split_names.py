"""Names of the parts of a predefined split, as people call them."""

import re

# The parts of a split, by the words that people use.
PART_BY_WORD = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "holdout": "test",
}
# Words beside one of these in names such as train_images, Test Set and val2017.
FILLER_WORDS = {"set", "split", "data", "dataset", "images", "image", "imgs", "img", "files", "csv"}
KNOWN_WORDS = FILLER_WORDS | PART_BY_WORD.keys()


def parse_split_name(name: str) -> str | None:
    """Return train, val or test if that is what the name says, else None."""
    is_name = KNOWN_WORDS.issuperset(find_words(name))
    return find_split_word(name) if is_name else None


def find_split_word(name: str) -> str | None:
    """Return train, val or test if one of them, and no other, is a word of the name."""
    parts = {PART_BY_WORD[word] for word in find_words(name) if word in PART_BY_WORD}
    return parts.pop() if len(parts) == 1 else None


def find_words(name: str) -> list[str]:
    """Return the words of a name, in lower case."""
    return re.findall(r"[a-z]+", name.lower())
