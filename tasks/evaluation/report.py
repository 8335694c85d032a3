"""Report."""

SHOWN = 15  # mistakes in the report
