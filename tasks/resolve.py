"""Resolve: the recipe, checked and with its defaults written out, and the fingerprints of the sources that it names.

    python -m tasks.resolve support-desk

Every later stage depends on its own sections of the result, so a changed key, default or source row makes stale what it touches and nothing else.
"""

import json
from pathlib import Path
from typing import Any

from tasks import files, sources
from tasks.recipe import Recipe, load
from tasks.step import Failure, main


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a plain mapping, all defaults explicit, with a section `sources` of fingerprints by the section that reads them."""
    named = {"label.lookup.file": recipe.label.lookup.file if recipe.label.lookup else None, "label.answers": recipe.label.answers}
    tables = {}
    for key, name in named.items():
        if name and not Path(name).is_file():
            raise Failure(f"{key}: {name} does not exist: put the table there or correct the path.")
        if name:
            tables[name] = files.sha256(Path(name))
    return {**recipe.model_dump(), "sources": {"label": tables, "ingest": sources.fingerprint(recipe.ingest)}}


def path_of(name: str) -> Path:
    return files.folder_of(name) / "recipe.json"


def read(name: str) -> Recipe:
    """The resolved recipe, as the steps use it."""
    return Recipe.model_validate({key: value for key, value in files.read_json(path_of(name)).items() if key != "sources"})


def outdated(name: str) -> bool:
    """Whether a source is no longer what it was when the recipe was resolved; DVC sees that only below data/sources."""
    return bool(files.read_json(path_of(name)) != json.loads(json.dumps(resolved(load(name)))))


def resolve(name: str) -> None:
    files.write_json(path_of(name), resolved(load(name)))


if __name__ == "__main__":
    main(resolve)
