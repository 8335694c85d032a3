"""The champion as a start for training: which one it was when the recipe was resolved, and its weights where they fit.

Who runs the stages puts what is in production below FOLDER. That it is another one by now makes no stage stale: training goes on from it once there is
something else to train for.
"""

from pathlib import Path
from typing import Any

from tasks import files
from tasks.recipe import Recipe
from tasks.step import Failure

FOLDER = Path(".millrace/champions")  # <recipe>/<version>/ has a version's files, <recipe>/production.json says which is in production
READ = ("model.json", "model.safetensors", "trained_on.parquet")


def note(recipe: str, version: str | None, hashes: dict[str, str]) -> None:
    """Keep which version is in production, and the sha256 of its files."""
    files.write_json(FOLDER / recipe / "production.json", {"version": version, "files": hashes} if version else None)


def noted(recipe: Recipe) -> Any:
    """What `note` kept, for a recipe that starts from it; else None."""
    path = FOLDER / recipe.name / "production.json"
    return files.read_json(path) if recipe.train.warm_start and path.is_file() else None


def start(recipe: Recipe, champion: dict[str, Any] | None, adapter: Any) -> dict[str, Any]:
    """Have the adapter's network begin with the champion's weights where they fit, and say what it begins with and why, as model.json is to."""
    why = "nothing is in production yet"
    if champion:
        about, weights = read(recipe.name, champion)
        wanted = {name: tensor.shape for name, tensor in adapter.network.state_dict().items()}
        apart = {
            "it is another kind of model": (about["modality"], about["problem"]) != (recipe.modality, recipe.problem),
            "its classes are others": adapter.problem.labels not in ([], about["labels"]),
            "what goes into it is encoded in another way": about.get("inputs") != adapter.inputs(),
            "its weights have other names or shapes": {name: tensor.shape for name, tensor in weights.items()} != wanted,
        }
        why = next((reason for reason, found in apart.items() if found), "")
        if not why:
            adapter.prepare = lambda examples, targets: adapter.network.load_state_dict(weights)
            return {"champion": champion["version"]}
        why = f"the champion {champion['version']} does not fit: {why}"
    return {"base": recipe.train.base, "why": why}


def read(recipe: str, champion: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The champion's model.json and weights; its bytes verify before anything reads them."""
    from safetensors.torch import load_file

    folder = FOLDER / recipe / champion["version"]
    for name in READ:
        if not (folder / name).is_file() or files.sha256(folder / name) != champion["files"].get(name):
            raise Failure(f"train.warm_start: {folder / name} is not there with the bytes that were promoted: `millrace run {recipe}` fetches it again.")
    return files.read_json(folder / "model.json"), load_file(folder / "model.safetensors")
