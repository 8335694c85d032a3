"""Training of a base on rows without labels."""

import math
from pathlib import Path
from typing import Any

from tasks import modalities
from tasks.contracts import epoch_record
from tasks.contracts.epoch_record import EpochCallback, History
from tasks.contracts.pretrain_report import PretrainLoss, PretrainReport
from tasks.modalities.base import Pretrainer
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.recipe import Recipe
from tasks.storage import code_closure, files, hashing
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.training import distributed, loop
from tasks.training.corpus import Corpus
from tasks.training.loop import TrainingHooks
from tasks.training.training_data import TrainingData


def build_pretrainer(recipe: Recipe, config: Pretrain, corpus: Corpus) -> Pretrainer:
    """Build the modality's trainer of bases, and its network."""
    build = modalities.get_modality(recipe.modality).pretrainer
    assert build is not None, "the recipe has been checked: its modality has bases"
    return build(config, modalities.extract_inputs(recipe, corpus.train))


def collect_fingerprint_inputs(recipe: Recipe, paths: StagePaths) -> list[Any]:
    """Collect what the result depends on, and so which checkpoints belong to this run."""
    labelled = paths.labelled
    data = [labelled.rows, labelled.rejects, paths.split.val, paths.split.test]
    return [
        recipe.pretrain,
        recipe.columns,
        recipe.modality,
        [hashing.sha256(path) for path in data],
        code_closure.hash_stage_code("pretrain"),
        distributed.hardware_fingerprint(),
    ]


def fit_base(
    recipe: Recipe,
    trainer: Pretrainer,
    corpus: Corpus,
    run_folder: Path,
    callbacks: tuple[EpochCallback, ...] = (),
) -> History:
    """Train the base; with no epochs its network stays as it was built."""
    if not trainer.config.epochs:
        return []
    train_examples = trainer.encode(modalities.extract_inputs(recipe, corpus.train))
    val_examples = trainer.encode(modalities.extract_inputs(recipe, corpus.val))
    ids = corpus.train["id"].to_pylist()
    data = TrainingData.without_targets(train_examples, val_examples, ids)
    return loop.fit(trainer, trainer.config, data, run_folder, TrainingHooks(callbacks=callbacks))


def write_base(
    target: ModelFolder, config: Pretrain, trainer: Pretrainer, corpus: Corpus, history: History
) -> None:
    """Write the base, the history of its training, and the report."""
    with files.atomic_folder(target.path) as temporary:
        folder = ModelFolder(temporary)
        size = trainer.save_base(folder.path)
        files.write_text(folder.history, epoch_record.format_history(history))
        report = PretrainReport(
            rows_in=corpus.rows_in,
            rows=corpus.train.num_rows,
            held_out=corpus.held_out,
            like_held_out=corpus.like_held_out,
            parameters=size.parameters,
            vocab_size=size.vocab_size,
            val=find_best_loss(history),
            pretrain=config.model_dump(mode="json"),
        )
        report.write(folder.report)


def find_best_loss(history: History) -> PretrainLoss | None:
    """Return the least loss on val, if there was an epoch."""
    if not history:
        return None
    best = min(history, key=lambda record: record.val["log_loss"])
    loss = best.val["log_loss"]
    return PretrainLoss(log_loss=loss, perplexity=round(math.exp(loss), 3), epoch=best.epoch)
