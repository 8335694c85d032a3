"""Cache keys: a marker holds for one content of the output and one key."""

from pathlib import Path

from tasks.storage import cache_keys
from tasks.storage.layout import StagePaths


def test_a_key_is_known_for_the_content_that_it_wrote_alone(tmp_path: Path) -> None:
    output = tmp_path / "snapshot.json"
    folder = tmp_path / "cache_keys"
    assert not cache_keys.is_written_with(folder, output, "key")
    output.write_text("old")
    assert not cache_keys.is_written_with(folder, output, "key")
    cache_keys.record_cache_key(folder, output, "key")
    assert cache_keys.is_written_with(folder, output, "key")
    assert not cache_keys.is_written_with(folder, output, "another key")
    output.write_text("new")
    assert not cache_keys.is_written_with(folder, output, "key")
    output.write_text("old")  # as DVC brings an earlier output back
    assert cache_keys.is_written_with(folder, output, "key")


def test_worktrees_of_a_repository_share_their_keys(here: Path) -> None:
    git_folder = here / "repository" / ".git" / "worktrees" / "other"
    git_folder.mkdir(parents=True)
    (git_folder / "commondir").write_text("../..\n")
    (here / ".git").write_text(f"gitdir: {git_folder}\n")
    assert StagePaths.of_recipe("tiny").cache_keys == here / "repository/.millrace/cache_keys"
    assert StagePaths(here / "data").cache_keys == here / "data/.millrace/cache_keys"
