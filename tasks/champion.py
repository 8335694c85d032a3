"""The champion as a start or a teacher for training: which one it was when the recipe was resolved, and its files where they fit.

Who runs the stages puts what is in production below FOLDER. That it is another one by now makes no stage stale: training goes on from it once there is
something else to train for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import files
from tasks.recipe import Recipe
from tasks.step import Failure

FOLDER = Path(
    ".millrace/champions"
)  # <recipe>/<version>/ has a version's files, <recipe>/production.json says which is in production
START = (
    "model.json",
    "model.safetensors",
    "trained_on.parquet",
)  # what training starts from; a teacher needs all files
NONE = "nothing is in production yet"


def note(recipe: str, version: str | None, hashes: dict[str, str]) -> None:
    """Keep which version is in production, and the sha256 of its files."""
    files.write_json(
        FOLDER / recipe / "production.json",
        {"version": version, "files": hashes} if version else None,
    )


def wanted(recipe: Recipe) -> bool:
    """Whether training starts from it or learns from it."""
    return recipe.train.warm_start or (
        recipe.export.distil is not None and recipe.export.distil.teacher == "champion"
    )


def noted(recipe: Recipe) -> Any:
    """What `note` kept, for a recipe that wants it; else None."""
    path = FOLDER / recipe.name / "production.json"
    return files.read_json(path) if wanted(recipe) and path.is_file() else None


def start(recipe: Recipe, champion: dict[str, Any] | None, adapter: Any) -> dict[str, Any]:
    """Have the adapter's network begin with the champion's weights where they fit, and say what it begins with and why, as model.json is to."""
    from safetensors.torch import load_file

    why = NONE
    if champion:
        folder = verified("train.warm_start", recipe, champion, START)
        about, weights = (
            files.read_json(folder / "model.json"),
            load_file(folder / "model.safetensors"),
        )
        wanted = {name: tensor.shape for name, tensor in adapter.network.state_dict().items()}
        apart = {
            "what goes into it is encoded in another way": about.get("inputs") != adapter.inputs(),
            "its weights have other names or shapes": {
                name: tensor.shape for name, tensor in weights.items()
            }
            != wanted,
        }
        why = unlike(recipe, about, adapter) or next(
            (reason for reason, found in apart.items() if found), ""
        )
        if not why:
            adapter.prepare = lambda examples, targets: adapter.network.load_state_dict(weights)
            return {"champion": champion["version"]}
        why = f"the champion {champion['version']} does not fit: {why}"
    return {"base": recipe.train.base, "why": why}


def teacher(
    recipe: Recipe, champion: dict[str, Any] | None, adapter: Any
) -> tuple[Path | None, dict[str, Any]]:
    """The folder of the champion to learn from, None where there is none that fits, and what model.json is to say of it."""
    if not champion:
        return None, {"why": NONE}
    folder = verified("export.distil", recipe, champion, list(champion["files"]))
    if why := unlike(recipe, files.read_json(folder / "model.json"), adapter):
        return None, {"why": f"the champion {champion['version']} does not fit: {why}"}
    return folder, {"champion": champion["version"]}


def unlike(recipe: Recipe, about: dict[str, Any], adapter: Any) -> str:
    """Why a model cannot say anything of these rows, or nothing."""
    if (about["modality"], about["problem"]) != (recipe.modality, recipe.problem):
        return "it is another kind of model"
    return "" if adapter.problem.labels in ([], about["labels"]) else "its classes are others"


def verified(key: str, recipe: Recipe, champion: dict[str, Any], names: Sequence[str]) -> Path:
    """The champion's folder, in which these files have the bytes that were promoted."""
    folder = FOLDER / recipe.name / str(champion["version"])
    for name in names:
        if not (folder / name).is_file() or files.sha256(folder / name) != champion["files"].get(
            name
        ):
            raise Failure(
                f"{key}: {folder / name} is not there with the bytes that were promoted: `millrace run {recipe.name}` fetches it again."
            )
    return folder
