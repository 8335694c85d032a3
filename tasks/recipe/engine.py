"""The section `engine`: where data is cleaned."""

from typing import Literal

from pydantic import Field

from tasks.recipe.base import Section


class Engine(Section):
    """Where data is cleaned. It changes no result."""

    kind: Literal["local", "ray"] = Field(
        "local", description="`local` is this machine, `ray` a Ray cluster."
    )
    address: str | None = Field(
        None,
        description="The address of the Ray cluster, such as ray://head:10001. By default that "
        "of the environment variable RAY_ADDRESS, or else a cluster on this machine.",
    )
