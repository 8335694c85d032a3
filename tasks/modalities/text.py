"""Text: a pretrained encoder of transformers with a linear head; mean pooling for sentence encoders, CLS for others."""

import importlib.util
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks import files, modalities
from tasks.problems import Floats, Problem, Targets, of_model
from tasks.recipe import Train
from tasks.step import Failure, Mistake, Retryable

POOL = 64  # batches whose rows are sorted by length together: less padding, order still random


def base_folder(base: str, sha256: str | None) -> Path:
    """Where the base model lies: package:NAME, a folder, or a hub id. Its weights are checked against `sha256` before anything reads them."""
    if base.startswith("package:"):
        spec = importlib.util.find_spec(base.removeprefix("package:"))
        if spec is None or not spec.submodule_search_locations:
            raise Mistake(f"train.base: the package {base.removeprefix('package:')!r} is not installed: install it, or name a folder or a hub id.")
        root = Path(spec.submodule_search_locations[0])
        folder = next((path.parent for path in sorted(root.rglob("model.safetensors"))), root)
    elif Path(base).is_dir():
        folder = Path(base)
    elif base.count("/") > 1 or base.startswith((".", "/")):
        raise Mistake(f"train.base: the folder {base} does not exist: correct the path.")
    else:
        folder = downloaded(base)
    weights = folder / "model.safetensors"
    if not weights.is_file() or not (folder / "config.json").is_file():
        raise Mistake(f"train.base: {folder} has no model.safetensors with a config.json: only safetensors are read; convert the model first.")
    found = files.sha256(weights) if sha256 else None
    if sha256 and found != sha256:
        raise Failure(
            f"train.base: {weights} has sha256 {found}, but the recipe expects {sha256}: the file was changed or damaged; install it again, or correct train.sha256."
        )
    return folder


def downloaded(base: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(base, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except (RepositoryNotFoundError, HFValidationError):
        raise Mistake(f"train.base: {base!r} is neither a folder nor a model on the hub: correct the name.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise Retryable(
            f"train.base: {base} could not be fetched from the hub ({files.first_line(error)}): check the connection, or name a local folder."
        ) from None


class Trainer:
    mixed = True

    def __init__(self, section: Train, rows: Sequence[str], problem: Problem) -> None:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self.section, self.problem = section, problem
        self.folder = base_folder(section.base or "", section.sha256)
        try:
            config = transformers.AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
            for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
                if hasattr(config, name):
                    setattr(config, name, 0.0)  # short fine-tuning gains nothing from it, and its random numbers cost a quarter of a step
            encoder = transformers.AutoModel.from_pretrained(self.folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise Failure(f"train.base: {self.folder} cannot be loaded by transformers ({files.first_line(error)}): use an encoder that it supports.") from None
        if section.activation_checkpointing:
            if not encoder.supports_gradient_checkpointing:
                raise Mistake(f"train.activation_checkpointing: transformers does not offer it for a {config.model_type}: leave it out.")
            encoder.activation_checkpointing_enable({"use_reentrant": False})
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # the head has its own pooling; an unused layer would be saved and never trained
        self.max_length = min(section.max_length, getattr(config, "max_position_embeddings", section.max_length))
        self.pad = tokenizer.pad_token_id or 0
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)
        self.pooling = "mean" if (self.folder / "1_Pooling").is_dir() else "cls"
        torch.manual_seed(section.seed)
        self.network = network(encoder, config.hidden_size, problem.width, self.pooling)

    def encode(self, rows: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(rows))]

    def batches(self, examples: list[list[int]], epoch: int | None) -> list[list[int]]:
        order = list(range(len(examples)))
        if epoch is None:
            return packed(sorted(order, key=lambda index: len(examples[index])), examples, self.section)
        shuffled = random.Random(f"{self.section.seed}-{epoch}")  # noqa: S311  not for secrets
        shuffled.shuffle(order)
        pool = POOL * self.section.batch_size
        made = []
        for start in range(0, len(order), pool):
            made += packed(sorted(order[start : start + pool], key=lambda index: len(examples[index])), examples, self.section)
        shuffled.shuffle(made)
        return made

    def prepare(self, examples: list[list[int]], targets: Targets) -> None:
        """Start the head as a linear model of the encoder's features: a random head would distort them first (Kumar et al. 2022)."""
        import torch

        features, head = self.features(examples), self.network.head
        scale = float(np.linalg.norm(features, axis=1).mean())
        if fitted := self.problem.head(features / scale, targets):
            with torch.no_grad():
                head.weight.copy_(torch.from_numpy(fitted[0] / scale))
                head.bias.copy_(torch.from_numpy(fitted[1]))

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

    def collate(self, examples: list[list[int]], generator: Any) -> tuple[Any, ...]:
        import torch

        return tuple(torch.from_numpy(array) for array in padded(examples, self.pad))

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        files.write_text(folder / "tokenizer.json", json.dumps(json.loads(self.tokenizer.to_str()), ensure_ascii=False, sort_keys=True))
        example = tuple(torch.from_numpy(array) for array in padded([[1] * 9, [2] * 7], self.pad))
        shape = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("tokens", min=2, max=self.max_length)}
        modalities.export_onnx(self.network.cpu(), example, ["input_ids", "attention_mask"], (shape, shape), folder / "model.onnx")
        return {"base": self.section.base, "pooling": self.pooling, "max_length": self.max_length, "pad": self.pad}


def embeddings(base: str, rows: Sequence[str]) -> NDArray[np.float64]:
    """What a base model makes of each text before any training: vectors of length 1, shape (rows, width)."""
    encoder = Trainer(Train(base=base), rows, Problem([]))
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


def packed(order: list[int], examples: list[list[int]], section: Train) -> list[list[int]]:
    """Consecutive indices in batches of at most batch_size rows and batch_tokens tokens, padding counted; a longer row stands alone."""
    made: list[list[int]] = [[]]
    widest = 0
    for index in order:
        widest = max(widest, len(examples[index]))
        if made[-1] and (len(made[-1]) == section.batch_size or widest * (len(made[-1]) + 1) > section.batch_tokens):
            made.append([])
            widest = len(examples[index])
        made[-1].append(index)
    return [batch for batch in made if batch]


def padded(examples: Sequence[list[int]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, each of shape (rows, longest row)."""
    width = max(2, *(len(example) for example in examples)) if len(examples) > 1 else max(2, len(examples[0]))
    ids = np.full((len(examples), width), pad, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = example
        mask[row, : len(example)] = 1
    return ids, mask


class Predictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.problem = of_model(about)
        self.labels = self.problem.labels
        self.pad: int = about["pad"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = modalities.session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[str], tokens: int = 4096) -> NDArray[np.float64]:
        examples = [encoding.ids for encoding in self.tokenizer.encode_batch(list(rows))]
        result = np.zeros((len(rows), self.problem.width))
        order = sorted(range(len(rows)), key=lambda index: len(examples[index]))
        limits = Train(batch_size=64, batch_tokens=tokens)
        for batch in packed(order, examples, limits):
            ids, mask = padded([examples[index] for index in batch], self.pad)
            logits = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
            result[batch] = self.problem.answers(logits)
        return result


def baseline(train: Sequence[str], targets: Targets, rows: Sequence[str], problem: Problem) -> Floats:
    """TF-IDF of words and word pairs with a linear model (logistic regression), fitted on `train`; answers for `rows`, shape (rows, width)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) > 5000 else 1), problem.linear(10))
    return problem.asked(model.fit(list(train), targets), list(rows))
