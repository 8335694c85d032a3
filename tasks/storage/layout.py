"""Layout."""

from pathlib import Path


def folder_of(recipe: str) -> Path:
    """Where a recipe's stage outputs lie."""
    return Path("data") / recipe


def of_repository(path: str) -> Path:
    """The path in this repository, which is the same for all its worktrees (`git worktree`): that in the one with the repository itself."""
    link = Path(".git")
    if (
        link.is_file()
        and (
            common := Path(link.read_text().removeprefix("gitdir:").strip()) / "commondir"
        ).is_file()
    ):
        return (common.parent / common.read_text().strip()).resolve().parent / path
    return Path(path)
