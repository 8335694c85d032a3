"""The section `promote`: where an accepted model goes."""

from pydantic import Field, PositiveFloat, PositiveInt

from tasks.recipe.base import Section


class Promote(Section):
    """Where a model goes that the gate accepts."""

    channel: str = Field(
        "production",
        pattern="^[a-z0-9][a-z0-9-]{0,62}$",
        description="The pointer that names the version in use: lower-case letters, digits and "
        "hyphens.",
    )
    latency_ms: PositiveFloat | None = Field(
        None,
        description="Milliseconds that the answer to one row may take before a version is put into "
        "the channel (95th percentile, one process, two threads); measured but not limited if it "
        "is left out.",
    )
    memory_mib: PositiveInt | None = Field(
        None,
        description="MiB of memory that a process may need that loads the version and answers; "
        "measured but not limited if it is left out.",
    )
