"""Where the files of each stage lie. No other module spells their names.

A stage is a function from `StagePaths` to files below it, so a test can run one in any folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
SUITES = ("raw", "ready")
REJECTS = "rejects.parquet"  # a file, or for stages that work part by part a folder of files
NO_REJECTS = "none.parquet"  # stands in a folder of rejects that would be empty


@dataclass(frozen=True)
class StageFolder:
    """The folder that one stage writes."""

    path: Path

    @property
    def report(self) -> Path:
        """Counts of rows in, rows out and rejects by rule."""
        return self.path / "report.json"

    @property
    def page(self) -> Path:
        """The page that shows people what the stage did."""
        return self.path / "index.html"

    @property
    def rows(self) -> Path:
        """The rows that the stage passes on, where they are one file."""
        return self.path / "rows.parquet"

    @property
    def rejects(self) -> Path:
        """The rows that the stage dropped, with the rule that dropped them."""
        return self.path / REJECTS


@dataclass(frozen=True)
class RawFolder(StageFolder):
    """Written by `ingest`: the source's partitions."""

    @property
    def snapshot(self) -> Path:
        """The record of the source and of its partitions."""
        return self.path / "snapshot.json"

    def partition(self, file: str) -> Path:
        """The rows of one partition."""
        return self.path / file

    def rejected_partition(self, file: str) -> Path:
        """The rows of one partition that were dropped."""
        return self.rejects / file


@dataclass(frozen=True)
class CheckFolder(StageFolder):
    """Written by `check_raw` or `check_ready`."""

    @property
    def result(self) -> Path:
        """What every expectation came to."""
        return self.path / "result.json"

    @property
    def passed(self) -> Path:
        """Exists only if the suite passed; names the snapshot that did."""
        return self.path / "passed.json"

    @property
    def accepted(self) -> Path:
        """The profile of the last accepted snapshot, which drift is measured against."""
        return self.path / "accepted.json"

    @property
    def failing(self) -> Path:
        """The ids of rows that fail an expectation."""
        return self.path / "failing.parquet"


@dataclass(frozen=True)
class CleanFolder(StageFolder):
    """Written by `clean`: one file per raw partition, or rows.parquet after a global rule."""

    @property
    def parts(self) -> Path:
        """The cleaned rows, one file for each raw partition."""
        return self.path / "parts"

    @property
    def keys(self) -> Path:
        """Content keys of each part, for exact duplicates across parts."""
        return self.path / "keys"

    @property
    def state(self) -> Path:
        """What the next run needs to keep unchanged parts."""
        return self.path / "state.json"


@dataclass(frozen=True)
class LabelledFolder(StageFolder):
    """Written by `label`."""

    @property
    def review_queue(self) -> Path:
        """Rows for people to label, as CSV."""
        return self.path / "review.csv"

    @property
    def label_studio_tasks(self) -> Path:
        """The review queue as tasks for Label Studio."""
        return self.path / "review.labelstudio.json"

    @property
    def label_studio_interface(self) -> Path:
        """The labelling interface for Label Studio."""
        return self.path / "review.labelstudio.xml"


@dataclass(frozen=True)
class SplitFolder(StageFolder):
    """Written by `split`."""

    def table(self, split: str) -> Path:
        """The rows of `train`, `val` or `test`."""
        return self.path / f"{split}.parquet"

    @property
    def train(self) -> Path:
        """The rows to train on."""
        return self.table("train")

    @property
    def val(self) -> Path:
        """The rows that choose the weights."""
        return self.table("val")

    @property
    def test(self) -> Path:
        """The rows that judge the model."""
        return self.table("test")

    def tables(self) -> Iterator[Path]:
        """The three splits, in the order train, val, test."""
        return (self.table(split) for split in SPLITS)


@dataclass(frozen=True)
class TunedFolder(StageFolder):
    """Written by `tune`."""

    @property
    def best(self) -> Path:
        """The values that the search found best."""
        return self.path / "best.json"

    @property
    def trials(self) -> Path:
        """One line for each trial."""
        return self.path / "trials.csv"


@dataclass(frozen=True)
class ModelFolder(StageFolder):
    """Written by `train`: a model as it is served. `pretrain` writes a base of the same kind."""

    @property
    def info(self) -> Path:
        """The model's description."""
        return self.path / "model.json"

    @property
    def onnx(self) -> Path:
        """The exported model."""
        return self.path / "model.onnx"

    @property
    def weights(self) -> Path:
        """The network's weights."""
        return self.path / "model.safetensors"

    @property
    def history(self) -> Path:
        """One line for each epoch."""
        return self.path / "history.jsonl"

    @property
    def trained_on(self) -> Path:
        """Hashes of the ids of the training rows."""
        return self.path / "trained_on.parquet"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, for texts."""
        return self.path / "tokenizer.json"

    @property
    def base_config(self) -> Path:
        """The configuration of a base in transformers' format."""
        return self.path / "config.json"


@dataclass(frozen=True)
class EvaluationFolder(StageFolder):
    """Written by `evaluate`."""

    @property
    def metrics(self) -> Path:
        """Metrics, aspects and hashes of what was evaluated."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """The answers to each test row."""
        return self.path / "predictions.parquet"

    @property
    def golden(self) -> Path:
        """Some test rows with the model's answers, which go with the version."""
        return self.path / "golden.parquet"

    @property
    def cost(self) -> Path:
        """Measured times, which differ between runs; no stage depends on them."""
        return self.path / "cost.json"

    @property
    def plots(self) -> Path:
        """CSV files for `dvc plots`."""
        return self.path / "plots"

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.path / "report.html"


@dataclass(frozen=True)
class StagePaths:
    """The outputs of a recipe's stages, below `root`."""

    root: Path
    shared: Path | None = None  # memory that worktrees share; below `root` if none is named

    @classmethod
    def of_recipe(cls, name: str) -> "StagePaths":
        """The paths of a registered recipe: data/<name>."""
        return cls(Path("data") / name, shared_path(".millrace"))

    @property
    def cache_keys(self) -> Path:
        """Markers that say which code and settings wrote which output."""
        return (self.shared or self.root / ".millrace") / "cache_keys"

    @property
    def recipe(self) -> Path:
        """The resolved recipe, written by `resolve`."""
        return self.root / "recipe.json"

    @property
    def erased_ids(self) -> Path:
        """The ids of rows to erase; people write this file."""
        return self.root / "erase.csv"

    @property
    def raw(self) -> RawFolder:
        """What `ingest` writes."""
        return RawFolder(self.root / "raw")

    def checks(self, suite: str) -> CheckFolder:
        """The results of the suite `raw` or `ready`."""
        return CheckFolder(self.root / "checks" / suite)

    @property
    def clean(self) -> CleanFolder:
        """What `clean` writes."""
        return CleanFolder(self.root / "clean")

    @property
    def labelled(self) -> LabelledFolder:
        """What `label` writes."""
        return LabelledFolder(self.root / "labelled")

    @property
    def split(self) -> SplitFolder:
        """What `split` writes."""
        return SplitFolder(self.root / "split")

    @property
    def pretrained(self) -> ModelFolder:
        """What `pretrain` writes."""
        return ModelFolder(self.root / "pretrained")

    @property
    def tuned(self) -> TunedFolder:
        """What `tune` writes."""
        return TunedFolder(self.root / "tuned")

    @property
    def model(self) -> ModelFolder:
        """What `train` writes."""
        return ModelFolder(self.root / "model")

    @property
    def evaluation(self) -> EvaluationFolder:
        """What `evaluate` writes."""
        return EvaluationFolder(self.root / "evaluation")

    @property
    def gate(self) -> Path:
        """The verdict on what content can judge."""
        return self.root / "gate.json"

    @property
    def model_card(self) -> Path:
        """The model card of what was judged."""
        return self.root / "card.md"

    @property
    def bill_of_materials(self) -> Path:
        """The bill of materials of what was judged."""
        return self.root / "bom.cdx.json"


def recipe_folder(recipe: str) -> Path:
    """Where a recipe's stage outputs lie."""
    return Path("data") / recipe


def shared_path(path: str) -> Path:
    """Return a path that is the same for all git worktrees of this repository.

    It lies in the worktree that holds the repository itself.
    """
    link = Path(".git")
    if not link.is_file():
        return Path(path)
    git_folder = Path(link.read_text().removeprefix("gitdir:").strip())
    common = git_folder / "commondir"
    if not common.is_file():
        return Path(path)
    return (git_folder / common.read_text().strip()).resolve().parent / path
