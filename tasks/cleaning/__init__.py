"""The cleaning rules: one module for each family, whose decorators register its rules."""

from tasks.cleaning import duplicates, images, pii, spelling, tables, text
from tasks.cleaning.rules import RULES

__all__ = ["RULES", "duplicates", "images", "pii", "spelling", "tables", "text"]
