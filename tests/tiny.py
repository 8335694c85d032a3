"""The smallest real models of each modality: splits of 64 rows, and bases of two layers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
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
    """Write a random encoder with 32 hidden units as transformers saves one."""
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
    """Write a random decoder with 32 hidden units and its tokenizer."""
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
    """Build a recipe, with the base in folder/base if the modality has one."""
    has_base = modality in ("text", "causal_lm") and not pretrain
    base_key = {"base": str(folder / "base")} if has_base else {}
    sections: dict[str, Any] = {
        "name": "tiny",
        "modality": modality,
        "ingest": {"kind": "files", "path": "unused.csv"},
        "gate": [{"rule": "floor", "metric": "macro_f1", "bound": 0.5}],
        "pretrain": pretrain,
        "train": {**base_key, **TRAIN[modality], "checkpoint_seconds": 0.0, **train},
    }
    if modality == "causal_lm":
        sections["columns"] = {"label": None, "prompt": "{topic}: "}
        sections["gate"] = [{"rule": "ceiling", "metric": "perplexity", "bound": 0.5}]
    return Recipe.model_validate(fill_defaults(sections))


def table(modality: str, start: int, count: int) -> pa.Table:
    """Build rows of two classes, which mostly differ in their content."""
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


def image_table(images: list[bytes | None]) -> pa.Table:
    """A table of images."""
    return pa.table({"image": pa.array(images, pa.binary())})


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encode_image(pixels)


def encode_image(
    image: Image.Image | NDArray[np.uint8], form: str = "PNG", **settings: object
) -> bytes:
    """Encode an image, or its pixels, in a format of Pillow."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def split(modality: str, folder: Path, rows: int = 64) -> Path:
    files.write_table(folder / "train.parquet", table(modality, 0, rows))
    files.write_table(folder / "val.parquet", table(modality, 500, 24))
    return folder


def case(modality: str, folder: Path, **train: Any) -> EvaluationContext:
    """Train a model on the split, and load what it is judged on: 48 rows of a test split."""
    if modality == "text":
        base(folder / "base")
    trained_recipe = recipe(modality, folder, **train)
    paths = StagePaths(folder)
    split(modality, paths.split.path)
    files.write_table(paths.split.test, table(modality, 600, 48))
    training.run(trained_recipe, paths, folder / "checkpoints")
    return judged(trained_recipe, folder)


def judged(recipe: Recipe, folder: Path) -> EvaluationContext:
    """Load the model and the split below `folder` as the evaluation does."""
    return EvaluationContext.load(recipe, StagePaths(folder))


def through(recipe: Recipe, folder: Path, checkpoints: Path) -> None:
    """Run the recipe's stages from the source to the evaluation, without the checks."""
    paths = StagePaths(folder)
    ingest.run(recipe, paths)
    clean.run(recipe, paths)
    label.run(recipe, paths)
    splitting.run(recipe, paths)
    training.run(recipe, paths, checkpoints)
    evaluate.run(recipe, paths)
