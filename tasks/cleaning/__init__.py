"""The cleaning rules by the names that recipes give them: one module for texts, images, tables and what all have."""

from tasks.cleaning import images, rows, tables, text
from tasks.cleaning.rule import Rule

RULES: dict[str, Rule] = {**text.RULES, **images.RULES, **tables.RULES, **rows.RULES}
