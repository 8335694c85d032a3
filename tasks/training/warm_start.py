"""The champion as a start or a teacher for training: which one it was when the recipe was resolved, and its files where they fit.

Who runs the stages puts what is in production below FOLDER. That it is another one by now makes no stage stale: training goes on from it once there is
something else to train for.
"""

from pathlib import Path
from typing import Any

from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion
from tasks.storage import files

WARM_START_FILES = (
    "model.json",
    "model.safetensors",
    "trained_on.parquet",
)  # what training starts from; a teacher needs all files
NO_CHAMPION = "nothing is in production yet"


def apply_warm_start(
    recipe: Recipe, champion: dict[str, Any] | None, adapter: Any
) -> dict[str, Any]:
    """Have the adapter's network begin with the champion's weights where they fit, and say what it begins with and why, as model.json is to."""
    from safetensors.torch import load_file

    why = NO_CHAMPION
    if champion:
        folder = local_champion.verify_champion_files(
            "train.warm_start", recipe, champion, WARM_START_FILES
        )
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
        why = describe_mismatch(recipe, about, adapter) or next(
            (reason for reason, found in apart.items() if found), ""
        )
        if not why:
            adapter.prepare = lambda examples, targets: adapter.network.load_state_dict(weights)
            return {"champion": champion["version"]}
        why = f"the champion {champion['version']} does not fit: {why}"
    return {"base": recipe.train.base, "why": why}


def find_teacher(
    recipe: Recipe, champion: dict[str, Any] | None, adapter: Any
) -> tuple[Path | None, dict[str, Any]]:
    """The folder of the champion to learn from, None where there is none that fits, and what model.json is to say of it."""
    if not champion:
        return None, {"why": NO_CHAMPION}
    folder = local_champion.verify_champion_files(
        "export.distil", recipe, champion, list(champion["files"])
    )
    if why := describe_mismatch(recipe, files.read_json(folder / "model.json"), adapter):
        return None, {"why": f"the champion {champion['version']} does not fit: {why}"}
    return folder, {"champion": champion["version"]}


def describe_mismatch(recipe: Recipe, about: dict[str, Any], adapter: Any) -> str:
    """Why a model cannot say anything of these rows, or nothing."""
    if (about["modality"], about["problem"]) != (recipe.modality, recipe.problem):
        return "it is another kind of model"
    return "" if adapter.problem.labels in ([], about["labels"]) else "its classes are others"
