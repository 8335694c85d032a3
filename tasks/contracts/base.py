"""What the files between stages have in common.

They have strict fields and a schema version, and a file that does not fit is refused in a sentence.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.errors import StageError
from tasks.storage import files

JsonObject = dict[str, Any]  # JSON whose shape is its writer's own


class Record(BaseModel):
    """A part of a file between stages: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Contract(Record):
    """The whole content of a file between stages.

    A subclass names the stage that writes it, and raises `VERSION` when its fields change meaning.
    One that no stage writes overrides `advice`.
    """

    VERSION: ClassVar[int] = 1
    WRITTEN_BY: ClassVar[str]

    schema_version: int = 1

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of this kind.

        Raises:
            StageError: The file is missing, is not JSON, has another schema version, or its
                fields are not those of this version.
        """
        return cls.parse(files.read_json(path), str(path))

    @classmethod
    def parse_bytes(cls, data: bytes, name: str) -> Self:
        """Check bytes that were read from `name`, which may hold anything.

        Raises:
            StageError: They are not JSON, have another schema version, or other fields.
        """
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):
            content = None
        return cls.parse(content, name)

    @classmethod
    def parse(cls, content: Any, name: str) -> Self:
        """Check content that was read from `name`.

        Raises:
            StageError: It has another schema version, or other fields.
        """
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != cls.VERSION:
            raise StageError(
                f"{name} has schema version {version}, but this Millrace reads version "
                f"{cls.VERSION}: {cls.advice()}."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise StageError(
                f"{name} is not a valid {cls.__name__} ({describe_first_error(error)}): "
                f"{cls.advice()}."
            ) from None

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a file cannot be read."""
        return f"run the stage `{cls.WRITTEN_BY}` again, which writes it anew"

    def to_json(self) -> dict[str, Any]:
        """The content as JSON values."""
        return self.model_dump(mode="json")

    def to_bytes(self) -> bytes:
        """The content as `write` writes it."""
        return files.encode_json(self.to_json())

    def write(self, path: Path) -> None:
        """Write the file whole: sorted, indented, without NaN."""
        files.write_json(path, self.to_json())


def describe_first_error(error: ValidationError) -> str:
    """Describe the first fault as `key.key: what is wrong`."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg']}"
