"""The exported text classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from tasks import problems
from tasks.contracts.model_info import ModelInfo, TextInput
from tasks.modalities import batching, onnx
from tasks.modalities.base import Predictor
from tasks.modalities.batching import TokenIds
from tasks.modalities.text.tfidf import TfidfModel
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

# In small batches of about equal length: a larger one is padded more than it gains.
BATCH_SIZE = 64
BATCH_TOKENS = 512


class TextPredictor(Predictor):
    """The network's outputs, plus those of the TF-IDF model if there is one."""

    def __init__(self, folder: Path, info: ModelInfo, threads: int) -> None:
        assert isinstance(info.input, TextInput)
        paths = ModelFolder(folder)
        self.problem = problems.from_model_info(info)
        self.labels = info.labels
        self.pad_id = info.input.pad_id
        self.tokenizer = Tokenizer.from_file(str(paths.tokenizer))
        self.session = onnx.open_session(paths.onnx, threads)
        self.tfidf_weight = info.tfidf_weight or 0.0
        self.tfidf = TfidfModel(folder) if self.tfidf_weight else None

    def __call__(self, rows: Sequence[str], batch_tokens: int = BATCH_TOKENS) -> Floats:
        """Return the answers for texts, `[rows, width]`."""
        outputs = self.run_network(rows, batch_tokens)
        if self.tfidf:
            outputs += self.tfidf_weight * self.tfidf(rows)
        return self.problem.decode_outputs(outputs)

    def run_network(self, rows: Sequence[str], batch_tokens: int) -> Floats:
        """Return the network's outputs for texts, `[rows, width]`."""
        examples = list(batching.tokenize(self.tokenizer, rows))
        outputs = np.zeros((len(rows), self.problem.width))
        limits = Train(batch_size=BATCH_SIZE, batch_tokens=batch_tokens)
        by_length = batching.sort_by_length(range(len(rows)), examples)
        for indices in batching.pack_batches(by_length, examples, limits):
            outputs[indices] = self.run_batch([examples[index] for index in indices])
        return outputs

    def run_batch(self, examples: list[TokenIds]) -> Floats:
        """Return the network's outputs for a batch of tokenized texts."""
        token_ids, mask = batching.pad_batch(examples, self.pad_id)
        inputs = {"input_ids": token_ids, "attention_mask": mask}
        outputs: Floats = self.session.run(["logits"], inputs)[0]
        return outputs
