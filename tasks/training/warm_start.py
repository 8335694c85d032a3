"""The champion as a start or a teacher for training, if it fits.

The resolved recipe names the champion that was in production when it was resolved. That another
model is in production by now makes no stage outdated: training takes that one into account as
soon as there is another reason to train.
"""

from dataclasses import dataclass
from pathlib import Path

from tasks.contracts.model_info import ModelInfo, TrainingStart
from tasks.modalities import lora
from tasks.modalities.base import Example, InitFunction, ModelTrainer
from tasks.problems.base import Targets
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion
from tasks.registry.local_champion import LocalChampion
from tasks.storage.layout import ModelFolder
from tasks.training.checkpoint import Tensors

# What training starts from, beside the weights; a teacher needs all files.
WARM_START_FILES = ("model.json", "trained_on.parquet")
NO_CHAMPION = "nothing is in production yet"
OTHER_WEIGHTS = "its weights have other names or shapes"


@dataclass(frozen=True)
class WarmStart:
    """How the weights begin: from the champion with `init`, else in the modality's own way."""

    origin: TrainingStart
    init: InitFunction | None = None


@dataclass(frozen=True)
class Teacher:
    """The folder of the model to learn from, if there is one that fits.

    `origin` is None if the recipe names the folder itself.
    """

    origin: TrainingStart | None
    folder: Path | None = None


@dataclass(frozen=True)
class Origins:
    """Where a model comes from, beside its rows.

    Attributes:
        start: How the weights begin, if the recipe has `warm_start`.
        teacher: The model to learn from, if the recipe has `distil`.
    """

    start: WarmStart | None = None
    teacher: Teacher | None = None

    @property
    def records(self) -> dict[str, TrainingStart]:
        """What model.json says about them, if the champion may be one of them."""
        records = {}
        if self.teacher and self.teacher.origin:
            records["teacher"] = self.teacher.origin
        if self.start:
            records["start"] = self.start.origin
        return records

    @property
    def champion(self) -> str | None:
        """The version of the champion that the model starts or learns from."""
        for record in self.records.values():
            if record.champion:
                return record.champion
        return None


def find_origins(recipe: Recipe, champion: LocalChampion | None, adapter: ModelTrainer) -> Origins:
    """Find the teacher and the first weights, as far as the recipe asks for them."""
    teacher: Teacher | None = None
    distil = recipe.export.distil
    if distil and distil.teacher == "champion":
        teacher = find_teacher(recipe, champion, adapter)
    elif distil:
        teacher = Teacher(None, Path(distil.teacher))
    start: WarmStart | None = None
    if recipe.train.warm_start:
        start = find_warm_start(recipe, champion, adapter)
    return Origins(start, teacher)


def describe_origin(origin: TrainingStart) -> str:
    """Describe a start or a teacher for people."""
    values = origin.model_dump(exclude_none=True)
    return ", ".join(f"{key} {value}" for key, value in values.items())


def find_warm_start(
    recipe: Recipe, champion: LocalChampion | None, adapter: ModelTrainer
) -> WarmStart:
    """Begin with the champion's weights if they fit, else with those of the base.

    Raises:
        StageError: A file of the champion is missing, or has other bytes than were promoted.
    """
    base = recipe.train.base
    if not champion:
        return WarmStart(TrainingStart(base=base, reason=NO_CHAMPION))
    weight_files = [name for name in adapter.WEIGHT_FILES if name in champion.files]
    folder = local_champion.verify_champion_files(
        "train.warm_start", recipe, champion, [*WARM_START_FILES, *weight_files]
    )
    info = ModelInfo.read(ModelFolder(folder).info)
    mismatch = describe_mismatch(recipe, info, adapter)
    if not mismatch and len(weight_files) < len(adapter.WEIGHT_FILES):
        mismatch = OTHER_WEIGHTS
    weights: Tensors = {}
    if not mismatch:
        weights = lora.name_like_lora_layers(adapter.load_weights(folder), adapter.network)
    mismatch = mismatch or describe_weight_mismatch(info, weights, adapter)
    if mismatch:
        reason = describe_unfit_champion(champion, mismatch)
        return WarmStart(TrainingStart(base=base, reason=reason))

    def load_weights(examples: list[Example], targets: Targets) -> None:  # noqa: ARG001
        adapter.network.load_state_dict(weights)

    return WarmStart(TrainingStart(champion=champion.version), load_weights)


def find_teacher(recipe: Recipe, champion: LocalChampion | None, adapter: ModelTrainer) -> Teacher:
    """Learn from the champion, if it fits.

    Raises:
        StageError: A file of the champion is missing, or has other bytes than were promoted.
    """
    if not champion:
        return Teacher(TrainingStart(reason=NO_CHAMPION))
    names = list(champion.files)
    folder = local_champion.verify_champion_files("export.distil", recipe, champion, names)
    mismatch = describe_mismatch(recipe, ModelInfo.read(ModelFolder(folder).info), adapter)
    if mismatch:
        reason = describe_unfit_champion(champion, mismatch)
        return Teacher(TrainingStart(reason=reason))
    return Teacher(TrainingStart(champion=champion.version), folder)


def describe_unfit_champion(champion: LocalChampion, mismatch: str) -> str:
    """Describe why the champion is not used."""
    return f"the champion {champion.version} does not fit: {mismatch}"


def describe_mismatch(recipe: Recipe, info: ModelInfo, adapter: ModelTrainer) -> str:
    """Describe why a model cannot predict the recipe's rows; empty if it can."""
    if (info.modality, info.problem) != (recipe.modality, recipe.problem):
        return "it is another kind of model"
    if adapter.problem.labels not in ([], info.labels):
        return "its classes are others"
    return ""


def describe_weight_mismatch(info: ModelInfo, weights: Tensors, adapter: ModelTrainer) -> str:
    """Describe why the network cannot take a model's weights; empty if it can."""
    if info.input_signature != adapter.input_signature():
        return "what goes into it is encoded in another way"
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    expected = {name: tensor.shape for name, tensor in adapter.network.state_dict().items()}
    if shapes != expected:
        return OTHER_WEIGHTS
    return ""
