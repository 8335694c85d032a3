"""The smallest real thing to train, for each modality: a split of 64 rows, and a BERT of two layers that is made here."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tasks import clean, evaluate, ingest, label, modalities
from tasks import split as splitting
from tasks import train as training
from tasks.contracts.model_info import (
    CausalLmInput,
    ImageInput,
    ModelInfo,
    ModelInput,
    TabularInput,
    TextInput,
)
from tasks.evaluation.base import EvaluationContext
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.defaults import fill_defaults
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths

TWO = ClassificationProblem(["no", "yes"])
WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "knoll",
    "lotus",
]
TRAIN: dict[str, dict[str, Any]] = {
    "text": {
        "epochs": 3,
        "batch_size": 16,
        "batch_tokens": 128,
        "learning_rate": 3e-3,
        "max_length": 16,
    },
    "causal_lm": {
        "epochs": 3,
        "batch_tokens": 256,
        "learning_rate": 3e-3,
        "max_length": 32,
        "lora": {"rank": 4},
    },
    "image": {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "augment": {"shift": 1, "rotate": 5.0, "zoom": 0.1, "elastic": 0.5},
    },
    "tabular": {"epochs": 3, "batch_size": 16, "hidden_sizes": [16], "dropout": 0.2},
}


def base(folder: Path) -> Path:
    """A pretrained encoder as transformers saves one, 32 wide."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n"
    )
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def decoder(folder: Path) -> Path:
    """A decoder, 32 wide, with its tokenizer."""
    from tasks.modalities.causal_lm.trainer import CausalLmPretrainer
    from tasks.recipe.pretrain import Pretrain

    rows = modalities.extract_inputs(recipe("causal_lm", folder), table("causal_lm", 0, 64))
    section = Pretrain.model_validate(
        {
            "network": {"layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 300},
            "max_length": 32,
        }
    )
    CausalLmPretrainer(section, rows).save_base(folder)
    return folder


def recipe(
    modality: str, folder: Path, pretrain: dict[str, Any] | None = None, **train: Any
) -> Recipe:
    """With the base in folder/base, where the modality has one."""
    based = modality in ("text", "causal_lm") and not pretrain
    rule = (
        {"rule": "ceiling", "metric": "perplexity"}
        if modality == "causal_lm"
        else {"rule": "floor", "metric": "macro_f1"}
    )
    about: dict[str, Any] = {
        "name": "tiny",
        "modality": modality,
        "ingest": {"kind": "files", "path": "unused.csv"},
        "gate": [{**rule, "bound": 0.5}],
        "pretrain": pretrain,
        "train": {
            **({"base": str(folder / "base")} if based else {}),
            **TRAIN[modality],
            "checkpoint_seconds": 0.0,
            **train,
        },
    }
    if modality == "causal_lm":
        about["columns"] = {"label": None, "prompt": "{topic}: "}
    return Recipe.model_validate(fill_defaults(about))


def table(modality: str, start: int, count: int) -> pa.Table:
    """Rows of two classes, which their content tells apart, mostly."""
    rng = np.random.default_rng(start)
    labels = [int(value) for value in rng.integers(0, 2, count)]
    columns: dict[str, list[Any]] = {
        "id": [f"r{number:03d}" for number in range(start, start + count)],
        "label": ["yes" if label else "no" for label in labels],
    }
    if modality == "causal_lm":
        columns |= {"label": ["text"] * count, "topic": columns["label"]}
    if modality in ("text", "causal_lm"):
        columns["text"] = [
            " ".join(rng.choice(WORDS[label * 4 : label * 4 + 8], int(rng.integers(3, 9))))
            for label in labels
        ]
    elif modality == "image":
        columns["image"] = [
            png((rng.random((8, 8)) * 150 + 80 * label).astype("uint8")) for label in labels
        ]
    else:
        columns |= {
            "a": [float(value) for value in rng.normal(labels)],
            "b": [float(value) for value in rng.normal(0, 1, count)],
        }
    return pa.table(columns)


MODEL_INPUTS: dict[str, ModelInput] = {
    "text": TextInput(pooling="cls", max_length=16, pad_id=0),
    "causal_lm": CausalLmInput(max_length=32, bos_id=0, eos_id=1, kv_cache_shape=(2, 2, 2, 16)),
    "image": ImageInput(shape=(1, 8, 8)),
    "tabular": TabularInput(columns=[]),
}


def model_info(modality: str, **fields: Any) -> ModelInfo:
    """A description of a model of classes, as model.json has it."""
    known = {"problem": "classification", "labels": TWO.labels, "parameters": 0, "train": {}}
    return ModelInfo(**{"input": MODEL_INPUTS[modality], **known, **fields})


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def split(modality: str, folder: Path, rows: int = 64) -> Path:
    files.write_table(folder / "train.parquet", table(modality, 0, rows))
    files.write_table(folder / "val.parquet", table(modality, 500, 24))
    return folder


def case(modality: str, folder: Path, **train: Any) -> EvaluationContext:
    """A model trained on the split and all that it is judged on: 48 rows of a test split."""
    if modality == "text":
        base(folder / "base")
    made, source = recipe(modality, folder, **train), split(modality, folder / "split")
    files.write_table(source / "test.parquet", table(modality, 600, 48))
    training.run(made, StagePaths(folder), folder / "checkpoints")
    return judged(made, folder)


def judged(made: Recipe, folder: Path) -> EvaluationContext:
    """Load the model and the split below `folder` as the evaluation does."""
    return EvaluationContext.load(made, StagePaths(folder))


def through(made: Recipe, folder: Path, checkpoints: Path) -> None:
    """The recipe through its steps, from the source to the evaluation, without the checks."""
    ingest.run(made, StagePaths(folder))
    clean.run(made, StagePaths(folder))
    label.run(made, StagePaths(folder))
    splitting.run(made, StagePaths(folder))
    training.run(made, StagePaths(folder), checkpoints)
    evaluate.run(made, StagePaths(folder))
