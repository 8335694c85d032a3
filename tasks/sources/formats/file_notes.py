"""What is noted while a file is read: lines that are no rows, and what people should know."""

from dataclasses import dataclass, field

from tasks.sources.base import BrokenRow


@dataclass
class FileNotes:
    """Notes on one file, which its reader adds to.

    Attributes:
        broken: Lines that are no rows.
        warnings: Sentences without the name of the file.
    """

    broken: list[BrokenRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def describe(self, name: str) -> list[str]:
        """Return the warnings with the name of the file."""
        return [f"{name}: {warning}" for warning in self.warnings]
