"""Causal language models: a decoder of transformers that goes on with a text. A row is a prompt and the text that is to follow it, or a text alone.

Rows are packed: several texts share a row of max_length tokens, and attention does not cross from one to the next (best-fit packing, Ding et al. 2024). A text
longer than that is cut into windows, each of which sees half a window of what came before it; every token is learnt, and scored, once.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.core.errors import ConfigError
from tasks.modalities import batching, onnx, pretrained
from tasks.modalities.base import Trainer
from tasks.modalities.causal_lm import networks, packing
from tasks.modalities.causal_lm.ngram_baseline import TrigramModel
from tasks.modalities.causal_lm.packing import PromptedText, TokenizedText
from tasks.problems.base import Problem, Targets
from tasks.problems.language import IGNORED_TARGET, PREDICTION_COLUMNS, LanguageProblem
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import files, hashing


class DecoderTrainer(Trainer):
    """What training and pre-training of a decoder share."""

    mixed = True

    def __init__(self, section: Train, problem: Problem, model: Any, tokenizer: Any) -> None:
        import torch

        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"train.base: the tokenizer of {section.base} has no token that ends a text (eos_token): name a base whose tokenizer has one."
            )
        if section.activation_checkpointing:
            pretrained.enable_activation_checkpointing(model, section)
        self.section, self.problem, self.base_tokenizer = section, problem, tokenizer
        self.max_length = pretrained.resolve_max_length(section, model.config, tokenizer)
        self.boundary_ids = (
            tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
            tokenizer.eos_token_id,
        )
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        if not torch.cuda.is_available() and self.max_length <= pretrained.MAX_EAGER_TOKENS:
            model.set_attn_implementation(
                "eager"
            )  # torch's fused attention is slow on CPUs where it goes back
        torch.manual_seed(section.seed)
        self.network = networks.build_packed_decoder(model)

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        return packing.encode_texts(self.tokenizer, self.boundary_ids, rows)

    def tokens(self, example: TokenizedText) -> int:
        return len(example[0])

    def batches(self, examples: list[TokenizedText], epoch: int | None) -> list[list[int]]:
        made: list[list[int]] = []
        for rows in batching.split_into_batches(len(examples), epoch, self.section):
            tokens = self.section.batch_tokens  # so that a batch begins with these rows
            for index in rows:
                tokens += len(examples[index][0])
                if tokens > self.section.batch_tokens:
                    made.append([])
                    tokens = len(examples[index][0])
                made[-1].append(index)
        return made

    def inputs(self) -> Any:
        return hashing.hash_json(self.tokenizer.to_str())

    def collate(self, examples: list[TokenizedText], generator: Any) -> tuple[Any, ...]:
        """Tokens, their places and the number of their window (-1 for padding), what each is to predict; then each window's example, and each text's bytes."""
        import torch

        pieces = list(
            packing.iterate_windows(
                examples, self.max_length, 0 if generator else self.max_length // 2
            )
        )
        rows = packing.pack_windows([len(ids) for _, ids, _ in pieces], self.max_length)
        width = max(sum(len(pieces[piece][1]) for piece in row) for row in rows)
        tokens, places, texts, targets = (
            torch.full((len(rows), width), fill)
            for fill in (self.boundary_ids[1], 0, -1, IGNORED_TARGET)
        )
        for number, row in enumerate(rows):
            at = 0
            for piece in row:
                span = (number, slice(at, at := at + len(pieces[piece][1])))
                tokens[span], targets[span], texts[span] = (
                    torch.from_numpy(pieces[piece][1]),
                    torch.from_numpy(pieces[piece][2]),
                    piece,
                )
                places[span] = torch.arange(len(pieces[piece][1]))
        return (
            tokens,
            places,
            texts,
            targets,
            torch.tensor([number for number, _, _ in pieces]),
            torch.tensor([size for _, _, size in examples]),
        )


class CausalLmTrainer(DecoderTrainer):
    def __init__(self, section: Train, rows: Sequence[PromptedText], problem: Problem) -> None:
        super().__init__(
            section, problem, *pretrained.load_base(section, "AutoModelForCausalLM")[:2]
        )

    def export(self, folder: Path) -> dict[str, Any]:
        """The decoder as ONNX with its memory of earlier tokens (keys and values) as input and output."""
        import torch

        files.write_text(
            folder / "tokenizer.json",
            json.dumps(json.loads(self.tokenizer.to_str()), ensure_ascii=False, sort_keys=True),
        )
        self.problem.labels = [hashing.sha256(folder / "tokenizer.json")]
        self.network.model.set_attn_implementation("sdpa")
        decoder = networks.build_cached_decoder(self.network.cpu().model)
        inputs = (
            torch.zeros(3, 5, dtype=torch.long),
            torch.zeros(*decoder.memory[:2], 3, decoder.memory[2], 7, decoder.memory[3]),
        )
        shape = (
            {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")},
            {2: torch.export.Dim("rows"), 4: torch.export.Dim("past")},
        )
        onnx.export_network(
            decoder,
            inputs,
            ["input_ids", "past"],
            shape,
            folder / "model.onnx",
            ["logits", "present"],
        )
        return {
            "base": self.section.base,
            "max_length": self.max_length,
            "ends": self.boundary_ids,
            "memory": list(decoder.memory),
        }


class CausalLmPretrainer(DecoderTrainer):
    """Learns prompts too: all tokens of a row are to be predicted."""

    def __init__(self, section: Pretrain, rows: Sequence[PromptedText]) -> None:
        made = (
            networks.build_llama(section.network, rows, section)
            if section.network
            else pretrained.load_base(section, "AutoModelForCausalLM")[:2]
        )
        super().__init__(section, LanguageProblem([], section), *made)

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        return [(ids, 1, size) for ids, _, size in super().encode(rows)]

    def export(self, folder: Path) -> dict[str, Any]:
        self.network.model.cpu().save_pretrained(folder)
        self.base_tokenizer.save_pretrained(folder)
        return {
            "parameters": self.network.model.num_parameters(),
            "vocabulary": len(self.base_tokenizer),
        }


class CausalLmPredictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.labels: list[str] = about["labels"]
        self.max_length: int = about["max_length"]
        self.boundary_ids = (about["ends"][0], about["ends"][1])
        self.memory: list[int] = about["memory"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnx.open_session(folder / "model.onnx", threads)
        self.problem = LanguageProblem(self.labels)
        self.problem.encode, self.problem.vocabulary = self.encode, self.tokenizer.get_vocab_size()

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        return packing.encode_texts(self.tokenizer, self.boundary_ids, rows)

    def __call__(self, rows: Sequence[PromptedText], tokens: int = 4096) -> Floats:
        """What each row's text costs, shape (rows, PARTS)."""
        examples = self.encode(rows)
        pieces = sorted(
            packing.iterate_windows(examples, self.max_length, self.max_length // 2),
            key=lambda piece: len(piece[1]),
        )
        result = np.zeros((len(rows), len(PREDICTION_COLUMNS)))
        result[:, 3] = [size for _, _, size in examples]
        while pieces:
            count = max(1, tokens // len(pieces[-1][1]))
            batch, pieces = pieces[-count:], pieces[:-count]
            ids, targets = (
                np.full((len(batch), len(batch[-1][1])), fill, np.int64)
                for fill in (self.boundary_ids[1], IGNORED_TARGET)
            )
            for at, (_, seen, wanted) in enumerate(batch):
                ids[at, : len(seen)], targets[at, : len(seen)] = seen, wanted
            row, place = np.nonzero(targets != IGNORED_TARGET)
            logits, true = (
                self.step(ids, self.empty_cache(len(batch)))[0][row, place].astype(np.float64),
                targets[row, place],
            )
            highest = logits.max(1)
            loss = (
                highest
                + np.log(np.exp(logits - highest[:, None]).sum(1))
                - logits[np.arange(len(true)), true]
            )
            owners = np.array([owner for owner, _, _ in batch])[row]
            np.add.at(
                result[:, :3],
                owners,
                np.stack([loss, np.ones(len(true)), logits.argmax(1) == true], 1),
            )
        return result

    def step(
        self, ids: NDArray[np.int64], past: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, present = self.session.run(["logits", "present"], {"input_ids": ids, "past": past})
        return logits, present

    def empty_cache(self, rows: int) -> NDArray[np.float32]:
        """The memory of no token."""
        layers, pair, heads, size = self.memory
        return np.zeros((layers, pair, rows, heads, 0, size), np.float32)

    def complete_prompt(self, prompt: str, tokens: int = 200) -> str:
        """The likeliest token after each (greedy decoding), until the text ends or has so many, or the context is full."""
        ids = [self.boundary_ids[0], *self.tokenizer.encode(prompt, add_special_tokens=False).ids][
            -self.max_length + 1 :
        ]
        said: list[int] = []
        new, past = np.array([ids], np.int64), self.empty_cache(1)
        while len(said) < tokens and past.shape[4] + new.shape[1] <= self.max_length:
            logits, past = self.step(new, past)
            said.append(int(logits[0, -1].argmax()))
            if said[-1] == self.boundary_ids[1]:
                return self.tokenizer.decode(said[:-1])
            new = np.array([said[-1:]], np.int64)
        return self.tokenizer.decode(said) + "…"

    def samples(self, rows: Sequence[PromptedText], count: int = 10) -> list[dict[str, str]]:
        """How the model goes on from the prompts of some rows, evenly spread, beside their texts."""
        chosen = sorted({round(at * (len(rows) - 1) / max(1, count - 1)) for at in range(count)})
        return [{**rows[at], "said": self.complete_prompt(rows[at]["prompt"])} for at in chosen]


def predict_baseline(
    train: Sequence[PromptedText],
    targets: Targets,
    rows: Sequence[PromptedText],
    problem: LanguageProblem,
) -> Floats:
    """Trigrams of the model's own tokens, fitted on `train`, prompts included; what each of `rows` costs, shape (rows, PARTS)."""
    model = TrigramModel([ids for ids, _, _ in problem.encode(train)], problem.vocabulary)
    result = np.zeros((len(rows), len(PREDICTION_COLUMNS)))
    for number, (ids, start, size) in enumerate(problem.encode(rows)):
        grams = model.grams(ids)[start - 1 :]
        right = model.most_likely_tokens(grams) == grams % model.vocabulary
        result[number] = -np.log(model.probabilities(grams)).sum(), len(grams), right.sum(), size
    return result
