"""Promote."""

from pydantic import (
    Field,
)

from tasks.recipe.base import Section


class Promote(Section):
    channel: str = Field("production", pattern="^[a-z0-9][a-z0-9-]{0,62}$")
