"""The champion as a start or a teacher for training: which one it was when the recipe was resolved, and its files where they fit.

Who runs the stages puts what is in production below FOLDER. That it is another one by now makes no stage stale: training goes on from it once there is
something else to train for.
"""

from pathlib import Path
from typing import Any

from tasks.contracts.model_info import ModelInfo, TrainingStart
from tasks.modalities.base import ModelTrainer
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion
from tasks.registry.local_champion import LocalChampion
from tasks.storage.layout import ModelFolder

WARM_START_FILES = (
    "model.json",
    "model.safetensors",
    "trained_on.parquet",
)  # what training starts from; a teacher needs all files
NO_CHAMPION = "nothing is in production yet"


def apply_warm_start(
    recipe: Recipe, champion: dict[str, Any] | None, adapter: ModelTrainer
) -> TrainingStart:
    """Have the adapter's network begin with the champion's weights where they fit, and say what it begins with and why, as model.json is to."""
    from safetensors.torch import load_file

    why = NO_CHAMPION
    if champion:
        folder = local_champion.verify_champion_files(
            "train.warm_start", recipe, LocalChampion.model_validate(champion), WARM_START_FILES
        )
        about, weights = (
            ModelInfo.read(ModelFolder(folder).info),
            load_file(folder / "model.safetensors"),
        )
        wanted = {name: tensor.shape for name, tensor in adapter.network.state_dict().items()}
        apart = {
            "what goes into it is encoded in another way": about.input_signature
            != adapter.input_signature(),
            "its weights have other names or shapes": {
                name: tensor.shape for name, tensor in weights.items()
            }
            != wanted,
        }
        why = describe_mismatch(recipe, about, adapter) or next(
            (reason for reason, found in apart.items() if found), ""
        )
        if not why:
            adapter.prepare = lambda examples, targets: adapter.network.load_state_dict(weights)  # type: ignore[method-assign]
            return TrainingStart(champion=champion["version"])
        why = f"the champion {champion['version']} does not fit: {why}"
    return TrainingStart(base=recipe.train.base, reason=why)


def find_teacher(
    recipe: Recipe, champion: dict[str, Any] | None, adapter: ModelTrainer
) -> tuple[Path | None, TrainingStart]:
    """The folder of the champion to learn from, None where there is none that fits, and what model.json is to say of it."""
    if not champion:
        return None, TrainingStart(reason=NO_CHAMPION)
    folder = local_champion.verify_champion_files(
        "export.distil", recipe, LocalChampion.model_validate(champion), list(champion["files"])
    )
    if why := describe_mismatch(recipe, ModelInfo.read(ModelFolder(folder).info), adapter):
        reason = f"the champion {champion['version']} does not fit: {why}"
        return None, TrainingStart(reason=reason)
    return folder, TrainingStart(champion=champion["version"])


def describe_mismatch(recipe: Recipe, about: ModelInfo, adapter: ModelTrainer) -> str:
    """Why a model cannot say anything of these rows, or nothing."""
    if (about.modality, about.problem) != (recipe.modality, recipe.problem):
        return "it is another kind of model"
    return "" if adapter.problem.labels in ([], about.labels) else "its classes are others"


def describe_start(start: TrainingStart) -> str:
    """Describe a start or teacher for people."""
    values = start.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in values.items())
