"""The section `promote`: where an accepted model goes."""

from pydantic import Field

from tasks.recipe.base import Section


class Promote(Section):
    """Where a model goes that the gate accepts."""

    channel: str = Field(
        "production",
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="The pointer that names the version in use: lower-case letters, digits and "
        "hyphens.",
    )
