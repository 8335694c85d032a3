"""The store as DVC knows it."""

import subprocess
import sys
from pathlib import Path

from flows import storage
from tasks.store import Settings


def test_what_a_person_has_configured_for_dvc_in_this_workspace_stays_as_it_was(here: Path) -> None:
    def dvc(*words: str) -> str:
        return subprocess.run([sys.executable, "-m", "dvc", *words], check=True, capture_output=True, text=True).stdout

    dvc("init", "--no-scm")
    for words in (("cache", "dir", "--local", str(here / "shared")), ("remote", "add", "--local", "--default", "mine", str(here / "mine"))):
        dvc(*words)
    for port in (1, 2):
        storage.name_remote(Settings("models", endpoint=f"http://127.0.0.1:{port}", key="k", secret="s"))
    assert (dvc("config", "cache.dir"), dvc("config", "core.remote")) == (f"{here / 'shared'}\n", "mine\n")
    assert dvc("config", "remote.store.endpointurl") == "http://127.0.0.1:2\n"
    assert dvc("config", "remote.mine.url") == f"{here / 'mine'}\n"
    assert (here / ".dvc" / "config.local").stat().st_mode & 0o777 == 0o600
