"""Training of a text classifier: an encoder whose token vectors are pooled, with a linear head."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import JsonValue

from tasks.contracts.model_info import LoadedBy, TextInput
from tasks.modalities import batching, onnx, pretrained, tokenizer_config
from tasks.modalities.base import ModelTrainer
from tasks.modalities.batching import TokenIds
from tasks.modalities.onnx import ExportedInput
from tasks.modalities.pretrained import Pooling, PretrainedModel, WrappedModel
from tasks.modalities.text import classifier_folder, stock_classifier
from tasks.modalities.text.classifier_folder import TextClassifier
from tasks.modalities.text.encoder import EncoderTrainer
from tasks.modalities.text.stock_classifier import LinearHead
from tasks.problems.base import Problem, Targets
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import hashing
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    import torch

EXPORT_EXAMPLE = ([1] * 9, [2] * 7)  # token ids with which the network is traced


class TextTrainer(EncoderTrainer, ModelTrainer):
    """Trains encoder and head."""

    WEIGHT_FILES = classifier_folder.WEIGHT_FILES

    def __init__(self, config: Train, rows: Sequence[str], problem: Problem) -> None:
        import torch

        super().__init__(config, pretrained.load_base(config))
        self.problem = problem
        if not config.shard:  # sharding divides whole tables
            self.train_used_embeddings_only(rows)
        torch.manual_seed(config.seed)
        hidden_size = self.encoder.config.hidden_size
        head = torch.nn.Linear(hidden_size, problem.width)
        self.network: WrappedModel = build_text_classifier(self.encoder, head, self.pooling)

    def train_used_embeddings_only(self, rows: Sequence[str]) -> None:
        """Replace the table of embeddings by one that trains the rows' tokens alone."""
        from tasks.modalities.text.trainable_embeddings import TrainableEmbeddingSubset

        used_ids = np.unique(np.concatenate([*self.encode(rows), [self.pad_id]]))
        table = self.encoder.get_input_embeddings().weight.detach()
        self.encoder.set_input_embeddings(TrainableEmbeddingSubset(table, used_ids))

    def prepare(self, examples: list[TokenIds], targets: Targets) -> None:
        """Start the head as a linear model of the encoder's features.

        A random head would distort them first (Kumar et al. 2022).
        """
        import torch

        features = self.compute_features(examples)
        head = self.network.head
        mean_norm = float(np.linalg.norm(features, axis=1).mean())
        fitted = self.problem.fit_head(features / mean_norm, targets)
        if not fitted:
            return
        weight, bias = fitted
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight / mean_norm))
            head.bias.copy_(torch.from_numpy(bias))

    def compute_features(self, examples: list[TokenIds]) -> Floats:
        """Return the encoder's pooled output for each example, `[examples, hidden size]`."""
        import torch

        network = self.network.eval()
        head = network.head
        network.head = torch.nn.Identity()
        features = np.zeros((len(examples), head.in_features))
        with torch.no_grad():
            for indices in self.batches(examples, None):
                batch = self.collate([examples[index] for index in indices], None)
                pooled = network(*batch.to(head.weight.device).inputs)
                features[indices] = pooled.double().cpu().numpy()
        network.head = head
        return features

    def input_signature(self) -> JsonValue:
        """Return a hash of the tokenizer."""
        return hashing.hash_json(self.tokenizer.to_str())

    def export(self, folder: Path) -> TextInput:
        """Write the tokenizer and model.onnx."""
        self.write_tokenizer(folder)
        with self.use_plain_layers():
            path = ModelFolder(folder).onnx
            onnx.export_network(self.network, self.describe_inputs(), path)
        return TextInput(pooling=self.pooling, max_length=self.max_length, pad_id=self.pad_id)

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer and its configuration."""
        batching.write_tokenizer(self.tokenizer, ModelFolder(folder).tokenizer)
        tokens = {**self.special_tokens, "pad_token": self.tokenizer.id_to_token(self.pad_id)}
        tokenizer_config.write_tokenizer_config(folder, tokens, self.max_length)

    def save_weights(self, folder: Path) -> LoadedBy:
        """Write the encoder and the head as transformers and sentence-transformers read them."""
        with self.use_plain_layers():
            classifier = TextClassifier(
                encoder=self.encoder.eval(),
                head=self.build_exported_head(),
                pooling=self.pooling,
                max_length=self.max_length,
                problem=self.problem.NAME,
                labels=self.labels,
            )
            return classifier_folder.write_classifier(folder, classifier)

    def build_exported_head(self) -> LinearHead:
        """Build the head whose outputs are in the unit of the exported network's."""
        scale, mean = self.problem.output_unit
        head = self.network.head
        weight = head.weight.detach().double() * scale
        bias = head.bias.detach().double() * scale + mean
        return LinearHead(weight.float(), bias.float())

    def load_weights(self, folder: Path) -> "dict[str, torch.Tensor]":
        """Read what `save_weights` wrote, under the names of the network's own parameters."""
        scale, mean = self.problem.output_unit
        head = classifier_folder.read_head(folder)
        encoder = classifier_folder.read_encoder(folder)
        return {
            **{f"encoder.{name}": value for name, value in encoder.items()},
            "head.weight": (head.weight.double() / scale).float(),
            "head.bias": ((head.bias.double() - mean) / scale).float(),
        }

    @contextlib.contextmanager
    def use_plain_layers(self) -> Iterator[None]:
        """Have plain embeddings and fused attention while the network is exported."""
        import torch

        encoder = self.network.cpu().encoder
        attention = encoder.config._attn_implementation
        embeddings = encoder.get_input_embeddings()
        table = embeddings.state_dict()["weight"]
        encoder.set_attn_implementation("sdpa")
        encoder.set_input_embeddings(
            torch.nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
        )
        yield
        # Pruning trains on.
        encoder.set_input_embeddings(embeddings)
        encoder.set_attn_implementation(attention)

    def describe_inputs(self) -> list[ExportedInput]:
        """Describe the inputs of the exported network."""
        import torch

        token_ids, mask = batching.pad_batch(EXPORT_EXAMPLE, self.pad_id)
        dynamic_axes = {
            0: torch.export.Dim("rows", min=1),
            1: torch.export.Dim("tokens", min=2, max=self.max_length),
        }
        return [
            ExportedInput("input_ids", torch.from_numpy(token_ids), dynamic_axes),
            ExportedInput("attention_mask", torch.from_numpy(mask), dynamic_axes),
        ]


def build_text_classifier(
    encoder: PretrainedModel, head: "torch.nn.Linear", pooling: Pooling
) -> "torch.nn.Module":
    """Build the network: encoder, pooling and head."""
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = head

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            pooled = stock_classifier.pool_tokens(output.last_hidden_state, attention_mask, pooling)
            logits: torch.Tensor = self.head(pooled)
            return logits

    return Classifier()


def embed_texts(base: str, rows: Sequence[str]) -> Floats:
    """Embed texts with a base as it is, without training.

    Returns vectors of length 1, `[rows, hidden size]`.
    """
    trainer = TextTrainer(Train(base=base), rows, Problem([]))
    features = trainer.compute_features(trainer.encode(rows))
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))
