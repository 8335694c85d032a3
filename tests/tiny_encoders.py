"""Random encoders of several kinds, as classifiers with a random head, and what they answer."""

from pathlib import Path
from typing import Any

import torch
import transformers
from numpy.typing import NDArray

from tasks import problems
from tasks.contracts.model_info import LoadedBy
from tasks.modalities.text.classifier import TextTrainer
from tasks.problems.regression import RegressionProblem
from tests import tiny

LABELS = ["maybe", "no", "yes"]
MAX_LENGTH = 16  # of tiny.TRAIN
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
DISTILBERT_SIZE = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 64,
    "max_position_embeddings": 40,
}
# Bases by their type, and the sizes of each.
ENCODERS: dict[str, dict[str, Any]] = {
    "albert": {**SIZE, "embedding_size": 16},
    "bert": SIZE,
    "deberta-v2": SIZE,
    "distilbert": DISTILBERT_SIZE,
    "electra": {**SIZE, "embedding_size": 16},
    "eurobert": {**SIZE, "num_key_value_heads": 2, "head_dim": 16, "eos_token_id": 3},
    "modernbert": {**SIZE, "cls_token_id": 2, "sep_token_id": 3, "eos_token_id": 3},
    "mpnet": SIZE,
    "roberta": SIZE,
    "longformer": {**SIZE, "attention_window": [8, 8]},
}
TEXTS = [
    "amber basil cedar",
    "Ámber, BASIL!",
    "delta",
    "",
    "jetty 漢字 \u200b knoll",
    " ".join(tiny.WORDS * 3),  # longer than the model reads
]


def write_base(folder: Path, kind: str, pooling: str) -> Path:
    """Write a random encoder of a kind with a tokenizer of words."""
    torch.manual_seed(0)
    tiny.base(folder)
    size = {"vocab_size": len(tiny.WORDS) + 5, **ENCODERS[kind]}
    config = transformers.AutoConfig.for_model(kind, **size)
    encoder = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder.save_pretrained(folder)
    if pooling == "mean":
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


def build_trainer(folder: Path, problem_name: str = "classification") -> TextTrainer:
    """Build the trainer of the base in folder/base, with a random head."""
    recipe = tiny.recipe("text", folder)
    problem = problems.problem_class(problem_name)(LABELS)
    if problem_name == "regression":
        problem = RegressionProblem(["value"], mean=250.0, scale=30.0)
    trainer = TextTrainer(recipe.train, TEXTS, problem)
    torch.manual_seed(1)
    torch.nn.init.normal_(trainer.network.head.weight)
    torch.nn.init.normal_(trainer.network.head.bias)
    return trainer


def compute_logits(trainer: TextTrainer) -> NDArray[Any]:
    """Compute the network's own outputs for the texts."""
    batch = trainer.collate(trainer.encode(TEXTS), None)
    with torch.no_grad(), trainer.problem.prepare_for_export(trainer.network):
        outputs: NDArray[Any] = trainer.network.eval()(*batch.inputs).numpy()
    return outputs


def load_and_predict(folder: Path, loaded_by: LoadedBy | None) -> NDArray[Any]:
    """Predict the texts with what loads the folder."""
    if loaded_by == "SentenceTransformer":
        from sentence_transformers import SentenceTransformer

        vectors: NDArray[Any] = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
        return vectors
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    with torch.no_grad():
        logits: NDArray[Any] = model(**inputs).logits.numpy()
    return logits
