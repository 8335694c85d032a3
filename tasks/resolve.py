"""Resolve: the recipe, checked and with its defaults written out, and the fingerprints of the sources that it names.

    python -m tasks.resolve support-desk

Every later stage depends on its own sections of the result, so a changed key, default or source row makes stale what it touches and nothing else.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import sources
from tasks.cleaning import pii_encryption
from tasks.core.errors import ConfigError, StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.label import Label
from tasks.recipe.loading import load_recipe
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion
from tasks.storage import files, hashing


def resolve_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a plain mapping, all defaults explicit, with a section `sources` of fingerprints by the section that reads them."""
    tables = {}
    for key, name in list_label_files(recipe.label):
        if not Path(name).exists():
            raise StageError(f"{key}: {name} does not exist: put it there or correct the path.")
        tables[name] = (
            hashing.hash_folder(Path(name)) if Path(name).is_dir() else hashing.sha256(Path(name))
        )
    distil, teacher = recipe.export.distil, {}
    if distil and distil.teacher != "champion":
        teacher = hashing.hash_folder(Path(distil.teacher))
        if "model.json" not in teacher:
            raise ConfigError(
                f"export.distil.teacher: {distil.teacher} holds no model.json: name the folder of an exported model, or champion."
            )
    read = {
        "ingest": sources.list_partition_versions(recipe.ingest),
        "clean": pii_encryption.compute_key_id(recipe.clean.rules),
        "label": tables,
    }
    champion = local_champion.read_champion(recipe)
    read |= {
        "train": champion.model_dump() if champion else None,
        "export": teacher,
        "libraries": hashing.read_library_versions(),
    }
    return {**recipe.model_dump(), "sources": read}


def list_label_files(label: Label) -> Iterator[tuple[str, str]]:
    """The files and folders that the label section names, each with its key: what people said, and what labelling functions read."""
    for name in [label.answers] if isinstance(label.answers, str) else label.answers:
        yield "label.answers", name
    for number, function in enumerate(label.functions):
        for key in ("file", "path", "base"):
            path = getattr(function, key, None)
            if path and (
                key != "base" or Path(path).is_dir()
            ):  # a package or a model of the hub is no file here
                yield f"label.functions[{number}].{key}", path


def is_outdated(name: str) -> bool:
    """Whether a source is no longer what it was when the recipe was resolved; DVC sees that only below data/sources."""
    return previous_if_unchanged(name, resolve_recipe(load_recipe(name))) is None


def previous_if_unchanged(name: str, new: dict[str, Any]) -> dict[str, Any] | None:
    """The recipe as it was resolved before, where that differs in the champion at most: another one alone is no reason to train again."""
    if not resolved.resolved_path(name).is_file():
        return None
    old: dict[str, Any] = files.read_json(resolved.resolved_path(name))
    same = json.loads(json.dumps(new))
    return (
        old
        if {**same, "sources": {**same["sources"], "train": old.get("sources", {}).get("train")}}
        == old
        else None
    )


def resolve(name: str) -> None:
    new = resolve_recipe(load_recipe(name))
    files.write_json(resolved.resolved_path(name), previous_if_unchanged(name, new) or new)


if __name__ == "__main__":
    main(resolve)
