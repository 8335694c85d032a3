"""The cleaning rules by the names that recipes give them: one module for texts, images, tables, personal data and rows of any kind."""

from tasks.cleaning import images, personal, rows, tables, text
from tasks.cleaning.rule import Rule

RULES: dict[str, Rule] = {**text.RULES, **images.RULES, **personal.RULES, **tables.RULES, **rows.RULES}
