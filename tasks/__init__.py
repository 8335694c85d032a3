"""The pipeline: its stages, each a module of this package, and what they are built from."""
