"""Checks of data: expectations of the recipe, and drift since the last accepted snapshot."""
