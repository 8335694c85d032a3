"""The folder of a text classifier, as transformers and sentence-transformers load it.

The encoder lies in model.safetensors and the head in 2_Dense. sentence-transformers reads both, and
the pooling between. Where transformers has a class that can give the same logits, model.safetensors
also has that class's own head.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contracts.model_info import LoadedBy
from tasks.modalities.pretrained import Pooling, PretrainedModel
from tasks.modalities.text import stock_classifier
from tasks.modalities.text.stock_classifier import LinearHead
from tasks.storage import files

if TYPE_CHECKING:
    import torch

POOLING_FOLDER = "1_Pooling"
HEAD_FOLDER = "2_Dense"
HEAD_WEIGHTS = f"{HEAD_FOLDER}/model.safetensors"
WEIGHT_FILES = ("model.safetensors", "config.json", HEAD_WEIGHTS)
PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
MODULES = {  # of sentence-transformers, by their folder
    "": "sentence_transformers.models.Transformer",
    POOLING_FOLDER: "sentence_transformers.models.Pooling",
    HEAD_FOLDER: "sentence_transformers.models.Dense",
}


@dataclass(frozen=True)
class TextClassifier:
    """A classifier to write.

    Attributes:
        encoder: Its encoder, on the CPU, with plain embeddings.
        head: Its last layer, whose outputs are those of the exported network.
        pooling: How token vectors become one vector.
        max_length: Tokens after which a text is cut.
        problem: What it solves.
        labels: The names of the outputs.
    """

    encoder: PretrainedModel
    head: LinearHead
    pooling: Pooling
    max_length: int
    problem: str
    labels: list[str]


def write_classifier(folder: Path, classifier: TextClassifier) -> LoadedBy:
    """Write weights, configuration and modules; the tokenizer is written elsewhere."""
    encoder = classifier.encoder
    stock = stock_classifier.build_stock_classifier(encoder, classifier.head, classifier.pooling)
    try:
        if stock is None:
            fill_unused_pooler(encoder)
        model = stock or encoder
        set_labels(model, classifier)
        model.save_pretrained(folder)
    finally:
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
    write_modules(folder, classifier)
    return "AutoModelForSequenceClassification" if stock else "SentenceTransformer"


def fill_unused_pooler(encoder: PretrainedModel) -> None:
    """Give the encoder a pooler of zeros if its class has one: files without it seem damaged."""
    import torch

    with torch.device("meta"):
        empty = type(encoder)(encoder.config)
    encoder.pooler = getattr(empty, "pooler", None)
    stock_classifier.fill_missing_parameters(encoder)


def set_labels(model: PretrainedModel, classifier: TextClassifier) -> None:
    """Name the outputs in the configuration, and what they are."""
    config = model.config
    config.id2label = dict(enumerate(classifier.labels))
    config.label2id = {label: index for index, label in enumerate(classifier.labels)}
    config.problem_type = PROBLEM_TYPES[classifier.problem]


def write_modules(folder: Path, classifier: TextClassifier) -> None:
    """Write what sentence-transformers reads beside the encoder: pooling and head."""
    from safetensors.torch import save_file

    n_labels, hidden_size = classifier.head.weight.shape
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind}
        for index, (path, kind) in enumerate(MODULES.items())
    ]
    files.write_json(folder / "modules.json", modules)
    length = {"max_seq_length": classifier.max_length, "do_lower_case": False}
    files.write_json(folder / "sentence_bert_config.json", length)
    files.write_json(
        folder / POOLING_FOLDER / "config.json",
        describe_pooling(classifier.pooling, hidden_size),
    )
    dense = {
        "in_features": hidden_size,
        "out_features": n_labels,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    files.write_json(folder / HEAD_FOLDER / "config.json", dense)
    head = {"linear.weight": classifier.head.weight, "linear.bias": classifier.head.bias}
    save_file(head, folder / HEAD_WEIGHTS, metadata={"format": "pt"})


def describe_pooling(pooling: Pooling, hidden_size: int) -> dict[str, bool | int]:
    """Describe the pooling as sentence-transformers does, in all its versions."""
    return {
        "word_embedding_dimension": hidden_size,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


def read_head(folder: Path) -> LinearHead:
    """Read the head."""
    from safetensors.torch import load_file

    head = load_file(folder / HEAD_WEIGHTS)
    return LinearHead(head["linear.weight"], head["linear.bias"])


def read_encoder(folder: Path) -> "dict[str, torch.Tensor]":
    """Read the encoder's weights, without a pooler."""
    import torch
    import transformers

    encoder = transformers.AutoModel.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    weights: dict[str, torch.Tensor] = encoder.state_dict()
    return {name: value for name, value in weights.items() if not name.startswith("pooler.")}
