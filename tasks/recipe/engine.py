"""Engine."""

from typing import Literal

from tasks.recipe.base import Section


class Engine(Section):
    """Where data is cleaned: on this machine, or on the Ray cluster at `address` (such as ray://head:10001). It changes no result."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = None
