"""Text: a pretrained encoder of transformers with a linear head; mean pooling for sentence encoders, CLS for others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks import files, modalities
from tasks.modalities import encoders
from tasks.modalities.masked import Pretrainer as Pretrainer
from tasks.recipe import Train


class Trainer(encoders.Encoder, modalities.Classifier):
    def __init__(self, section: Train, rows: Sequence[str], classes: int) -> None:
        import torch

        super().__init__(section, *encoders.loaded(section))
        torch.manual_seed(section.seed)
        self.network = network(self.encoder, self.encoder.config.hidden_size, classes, self.pooling)

    def prepare(self, examples: list[list[int]], labels: NDArray[np.int64]) -> None:
        """Start the head as a logistic regression on the encoder's features: a random head would distort them first (Kumar et al. 2022)."""
        import torch
        from sklearn.linear_model import LogisticRegression

        features, head = self.features(examples), self.network.head
        scale = float(np.linalg.norm(features, axis=1).mean())
        fitted = LogisticRegression(C=10, max_iter=300).fit(features / scale, labels)
        if len(fitted.classes_) == head.out_features > 2:
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(fitted.coef_ / scale))
                head.bias.copy_(torch.from_numpy(fitted.intercept_))

    def features(self, examples: list[list[int]]) -> NDArray[np.float64]:
        """The encoder's pooled output for each example, shape (examples, width)."""
        import torch

        model = self.network.eval()
        head, model.head = model.head, torch.nn.Identity()
        features = np.zeros((len(examples), head.in_features))
        with torch.no_grad():
            for batch in self.batches(examples, None):
                features[batch] = model(*self.collate([examples[index] for index in batch], None)).double().numpy()
        model.head = head
        return features

    def inputs(self) -> Any:
        return files.digest(self.tokenizer.to_str())

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        self.encoder.set_attn_implementation("sdpa")
        files.write_text(folder / "tokenizer.json", json.dumps(json.loads(self.tokenizer.to_str()), ensure_ascii=False, sort_keys=True))
        example = tuple(torch.from_numpy(array) for array in encoders.padded([[1] * 9, [2] * 7], self.pad))
        shape = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("tokens", min=2, max=self.max_length)}
        modalities.export_onnx(self.network.cpu(), example, ["input_ids", "attention_mask"], (shape, shape), folder / "model.onnx")
        return {"base": self.section.base, "pooling": self.pooling, "max_length": self.max_length, "pad": self.pad}


def embeddings(base: str, rows: Sequence[str]) -> NDArray[np.float64]:
    """What a base model makes of each text before any training: vectors of length 1, shape (rows, width)."""
    encoder = Trainer(Train(base=base), rows, 1)
    features = encoder.features(encoder.encode(rows))
    result: NDArray[np.float64] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return result


def network(encoder: Any, width: int, classes: int, pooling: str) -> Any:
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = torch.nn.Linear(width, classes)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if pooling == "cls":
                pooled = hidden[:, 0]
            else:
                mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * mask).sum(1) / mask.sum(1)
            logits: torch.Tensor = self.head(pooled)
            return logits

    return Classifier()


class Predictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.labels: list[str] = about["labels"]
        self.pad: int = about["pad"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = modalities.session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[str], tokens: int = 4096) -> NDArray[np.float64]:
        examples = [encoding.ids for encoding in self.tokenizer.encode_batch(list(rows))]
        result = np.zeros((len(rows), len(self.labels)))
        order = sorted(range(len(rows)), key=lambda index: len(examples[index]))
        limits = Train(batch_size=64, batch_tokens=tokens)
        for batch in encoders.packed(order, examples, limits):
            ids, mask = encoders.padded([examples[index] for index in batch], self.pad)
            logits = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
            result[batch] = modalities.softmax(logits)
        return result


def baseline(train: Sequence[str], labels: NDArray[np.int64], rows: Sequence[str], classes: int) -> NDArray[np.float64]:
    """TF-IDF of words and word pairs with logistic regression, fitted on `train`; probabilities for `rows`, shape (rows, classes)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) > 5000 else 1), LogisticRegression(C=10, max_iter=300))
    model.fit(list(train), labels)
    result = np.zeros((len(rows), classes))
    result[:, model.classes_] = model.predict_proba(list(rows))
    return result
