"""Export."""

from pydantic import (
    Field,
)

from tasks.recipe.base import Section


class Distil(Section):
    """The model also learns what a `teacher` says, which has this `weight` against the labels: the folder of an exported model of the same classes, or
    champion, the model in production, where there is one of the same classes."""

    teacher: str
    temperature: float = Field(2.0, gt=0, le=100)
    weight: float = Field(0.5, gt=0, le=1)


class Export(Section):
    """How the exported model is made smaller: with `int8` its weights are integers of 8 bits; with `distil` a small one learns from a large one. `prune` is
    the share of weights, the smallest, to set to zero: the file stays as large, but packs better."""

    distil: Distil | None = None
    int8: bool = False
    prune: float = Field(0.0, ge=0, lt=1)

    @property
    def has_compression(self) -> bool:
        return self.int8 or self.prune > 0 or self.distil is not None
