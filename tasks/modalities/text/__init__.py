"""Text: a pretrained encoder of transformers with a linear head; mean pooling for sentence encoders, CLS for others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.modalities import batching, onnx, pretrained
from tasks.modalities.batching import TokenIds
from tasks.modalities.text.encoder import EncoderTrainer
from tasks.modalities.text.masked_lm import MaskedLmPretrainer as TextPretrainer  # noqa: F401
from tasks.modalities.text.tfidf import TfidfModel
from tasks.problems import from_model_info
from tasks.problems.base import Problem, Targets
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import files, hashing

IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff"
WORD_PATTERN = rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]{{2,}}"


class TextTrainer(EncoderTrainer):
    def __init__(self, section: Train, rows: Sequence[str], problem: Problem) -> None:
        import torch

        from tasks.modalities.text.trainable_embeddings import TrainableEmbeddingSubset

        super().__init__(section, *pretrained.load_base(section))
        self.problem = problem
        met = np.unique(np.concatenate([*self.encode(rows), [self.pad]]))
        if not section.shard:  # which divides whole tables
            self.encoder.set_input_embeddings(
                TrainableEmbeddingSubset(self.encoder.get_input_embeddings().weight.detach(), met)
            )
        torch.manual_seed(section.seed)
        self.network = build_text_classifier(
            self.encoder, self.encoder.config.hidden_size, problem.width, self.pooling
        )

    def prepare(self, examples: list[TokenIds], targets: Targets) -> None:
        """Start the head as a linear model of the encoder's features: a random head would distort them first (Kumar et al. 2022)."""
        import torch

        features, head = self.features(examples), self.network.head
        scale = float(np.linalg.norm(features, axis=1).mean())
        if fitted := self.problem.fit_head(features / scale, targets):
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(fitted[0] / scale))
                head.bias.copy_(torch.from_numpy(fitted[1]))

    def features(self, examples: list[TokenIds]) -> NDArray[np.float64]:
        """The encoder's pooled output for each example, shape (examples, width)."""
        import torch

        model = self.network.eval()
        head, model.head = model.head, torch.nn.Identity()
        features = np.zeros((len(examples), head.in_features))
        with torch.no_grad():
            for batch in self.batches(examples, None):
                inputs = (
                    tensor.to(head.weight.device)
                    for tensor in self.collate([examples[index] for index in batch], None)
                )
                features[batch] = model(*inputs).double().cpu().numpy()
        model.head = head
        return features

    def inputs(self) -> Any:
        return hashing.hash_json(self.tokenizer.to_str())

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        files.write_text(
            folder / "tokenizer.json",
            json.dumps(json.loads(self.tokenizer.to_str()), ensure_ascii=False, sort_keys=True),
        )
        example = tuple(
            torch.from_numpy(array) for array in batching.pad_batch([[1] * 9, [2] * 7], self.pad)
        )
        shape = {
            0: torch.export.Dim("rows", min=1),
            1: torch.export.Dim("tokens", min=2, max=self.max_length),
        }
        encoder, attention = self.network.cpu().encoder, self.encoder.config._attn_implementation
        encoder.set_attn_implementation("sdpa")
        training = encoder.get_input_embeddings()
        encoder.set_input_embeddings(
            torch.nn.Embedding.from_pretrained(training.state_dict()["weight"])
        )  # type: ignore[no-untyped-call]
        onnx.export_network(
            self.network,
            example,
            ["input_ids", "attention_mask"],
            (shape, shape),
            folder / "model.onnx",
        )
        encoder.set_input_embeddings(training)
        encoder.set_attn_implementation(attention)  # pruning trains on
        return {
            "base": self.section.base,
            "pooling": self.pooling,
            "max_length": self.max_length,
            "pad": self.pad,
        }


def embed_texts(base: str, rows: Sequence[str]) -> NDArray[np.float64]:
    """What a base model makes of each text before any training: vectors of length 1, shape (rows, width)."""
    encoder = TextTrainer(Train(base=base), rows, Problem([]))
    features = encoder.features(encoder.encode(rows))
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def build_text_classifier(encoder: Any, width: int, classes: int, pooling: str) -> Any:
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = torch.nn.Linear(width, classes)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            if pooling == "cls":
                pooled = hidden[:, 0]
            else:
                mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * mask).sum(1) / mask.sum(1)
            logits: torch.Tensor = self.head(pooled)
            return logits

    return Classifier()


class TextPredictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.problem = from_model_info(about)
        self.labels = self.problem.labels
        self.pad: int = about["pad"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnx.open_session(folder / "model.onnx", threads)
        self.lexical, self.weight = (
            TfidfModel(folder) if "lexical" in about else None,
            about.get("lexical", 0.0),
        )

    def __call__(self, rows: Sequence[str], tokens: int = 512) -> NDArray[np.float64]:
        # in small batches of about equal length: a larger one is padded more than it gains
        examples = list(batching.tokenize(self.tokenizer, rows))
        result = np.zeros((len(rows), self.problem.width))
        order = sorted(range(len(rows)), key=lambda index: len(examples[index]))
        limits = Train(batch_size=64, batch_tokens=tokens)
        for batch in batching.pack_batches(order, examples, limits):
            ids, mask = batching.pad_batch([examples[index] for index in batch], self.pad)
            result[batch] = self.session.run(
                ["logits"], {"input_ids": ids, "attention_mask": mask}
            )[0]
        if self.lexical and self.weight:
            result += self.weight * self.lexical(rows)
        return self.problem.decode_outputs(result)


def predict_baseline(
    train: Sequence[str], targets: Targets, rows: Sequence[str], problem: Problem
) -> Floats:
    """TF-IDF of words and word pairs with a linear model (logistic regression), fitted on `train`; answers for `rows`, shape (rows, width).

    Of Chinese and Japanese, which have no blanks between words, each character counts as one.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2 if len(train) > 5000 else 1,
        token_pattern=WORD_PATTERN,
    )
    model = make_pipeline(words, problem.build_linear_baseline(10))
    return problem.predict_with(model.fit(list(train), targets), list(rows))
