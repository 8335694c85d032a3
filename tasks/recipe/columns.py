"""The section `columns`: which column plays which role."""

from collections.abc import Iterator

from pydantic import Field

from tasks.recipe.base import Section


class Columns(Section):
    """The source's names for the columns `id`, `text` or `image`, and `label` of the pipeline.

    Other columns keep their names.
    """

    id: str | None = Field(
        None,
        description="The column that names each row. Without it a column `id` names the rows if "
        "each has a value of its own; otherwise that column is kept as the ordinary column "
        "`data.id`, and a row's id is made from its content.",
    )
    text: str = Field("text", description="The column that holds the text.")
    image: str = Field("image", description="The column that holds the image.")
    label: str | None = Field(
        "label",
        description="The column to be predicted; null for a causal language model, whose rows "
        "have no label.",
    )
    features: list[str] | None = Field(
        None,
        min_length=1,
        description="The columns from which a table's model predicts; by default all that have "
        "no other role.",
    )
    prompt: str | None = Field(
        None,
        description="What a causal language model is given before each text. Names in braces "
        "stand for other columns, as in '{service} {operation}: '.",
    )

    def roles(self, content: str | None) -> dict[str, str]:
        """Map the roles that a column can have to the columns' names.

        Args:
            content: The column that holds the content of a row, `text` or `image`; None for a
                table.
        """
        names = {"id": self.id, "text": self.text, "image": self.image, "label": self.label}
        roles = ("id", content, "label")
        return {role: name for role, name in names.items() if role in roles and name is not None}


def find_shared_columns(roles: dict[str, str]) -> Iterator[str]:
    """Describe each column that has two roles."""
    first_roles: dict[str, str] = {}
    for role, name in roles.items():
        if name in first_roles:
            yield (
                f"{first_roles[name]} and {role} are both {name!r}, and a column has one role: "
                "name another column for one of them"
            )
        else:
            first_roles[name] = role
