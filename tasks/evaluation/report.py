"""Report."""

MAX_MISTAKES = 15  # mistakes in the report
