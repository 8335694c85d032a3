"""The section `export`: how the exported model is made smaller."""

from pydantic import Field

from tasks.recipe.base import PathText, Section


class Distil(Section):
    """The model also learns what another model predicts, the teacher (Hinton et al. 2015)."""

    teacher: PathText = Field(
        description="The folder of an exported model of the same classes, or `champion`, the "
        "model in production, if its classes are the same."
    )
    temperature: float = Field(
        2.0,
        gt=0,
        le=100,
        description="Divides the logits of teacher and model before the softmax; a higher one "
        "makes the probabilities more even.",
    )
    weight: float = Field(
        0.5,
        gt=0,
        le=1,
        description="The weight of the teacher's predictions in the loss; the labels have the "
        "rest.",
    )


class Export(Section):
    """How the exported model is made smaller."""

    distil: Distil | None = Field(
        None, description="Let the model learn from a larger one, the teacher."
    )
    int8: bool = Field(default=False, description="Store the weights as integers of 8 bits.")
    prune: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of the weights, the smallest, to set to zero. The file stays as "
        "large, but compresses better.",
    )

    @property
    def has_compression(self) -> bool:
        """Whether any of these is asked for."""
        return self.int8 or self.prune > 0 or self.distil is not None
