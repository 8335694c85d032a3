"""Causal language models: a decoder of transformers that goes on with a text. A row is a prompt and the text that is to follow it, or a text alone.

Rows are packed: several texts share a row of max_length tokens, and attention does not cross from one to the next (best-fit packing, Ding et al. 2024). A text
longer than that is cut into windows, each of which sees half a window of what came before it; every token is learnt, and scored, once.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks import files, modalities
from tasks.modalities import text, trigrams
from tasks.recipe import Train
from tasks.step import Failure, Mistake

Row = dict[str, str]  # its prompt and its text
Example = tuple[list[int], int]  # a row's tokens, of which the first begins it, and the place of the first that is to be predicted
IGNORED = -100  # the target where none is to be predicted
COLUMNS = 3  # what is known of a row: the sum of −log p over its tokens, their number, and how many were the likeliest


def encoded(tokenizer: Tokenizer, ends: tuple[int, int], rows: Sequence[Row]) -> list[Example]:
    """Tokens of prompt and text, between the tokens that begin and end a text. Raises Failure for a row without a text."""
    empty = [number for number, row in enumerate(rows, 1) if not (row["text"] or "").strip()]
    if empty:
        raise Failure(f"row number {empty[0]} has no text to learn ({len(empty)} of {len(rows)} have none): add the rule length to clean.rules.")
    prompts, texts = ([one.ids for one in tokenizer.encode_batch([row[part] for row in rows], add_special_tokens=False)] for part in ("prompt", "text"))
    return [([ends[0], *prompt, *ids, ends[1]], 1 + len(prompt)) for prompt, ids in zip(prompts, texts, strict=True)]


def windows(example: Example, length: int) -> list[tuple[list[int], list[int]]]:
    """The tokens that a network sees, at most `length` at once, and what each is to predict; each token from `start` on is predicted once."""
    ids, start = example
    made = []
    for first in range(0, max(1, len(ids) - 1 - length + length // 2), length // 2) if len(ids) - 1 > length else [0]:
        done = first + length // 2 if first else 0  # what the window before has predicted
        targets = [token if place >= start and place > done else IGNORED for place, token in enumerate(ids[first + 1 : first + 1 + length], first + 1)]
        if any(target != IGNORED for target in targets):
            made.append((ids[first : first + len(targets)], targets))
    return made


def packed(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which texts share a row: the longest first, each into the fullest row that has space for it."""
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        fitting = [row for row, left in enumerate(space) if left >= sizes[index]]
        if fitting:
            row = min(fitting, key=lambda row: space[row])
        else:
            row = len(rows)
            rows.append([])
            space.append(length)
        rows[row].append(index)
        space[row] -= sizes[index]
    return rows


class Trainer:
    mixed = True
    weights: Any = None
    start = 0  # of a text alone the prompt is learnt too

    def __init__(self, section: Train, rows: Sequence[Row], classes: int) -> None:
        import torch
        import transformers

        self.section = section
        model, tokenizer = text.loaded(section, transformers.AutoModelForCausalLM)
        self.setup(model, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), tokenizer.bos_token_id, tokenizer.eos_token_id)
        torch.manual_seed(section.seed)

    def setup(self, model: Any, tokenizer: Tokenizer, begin: int | None, end: int | None) -> None:
        if end is None:
            raise Mistake(f"train.base: the tokenizer of {self.section.base} has no token that ends a text: name a base whose tokenizer has an eos_token.")
        self.max_length = min(self.section.max_length, model.config.max_position_embeddings)
        self.ends = (end if begin is None else begin, end)
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.network = network(model)

    def encode(self, rows: Sequence[Row]) -> list[Example]:
        return encoded(self.tokenizer, self.ends, rows)

    def batches(self, examples: list[Example], epoch: int | None) -> list[list[int]]:
        order = list(range(len(examples)))
        if epoch is not None:
            random.Random(f"{self.section.seed}-{epoch}").shuffle(order)  # noqa: S311  not for secrets
        made: list[list[int]] = [[]]
        tokens = 0
        for index in order:
            tokens += len(examples[index][0])
            if made[-1] and (len(made[-1]) == self.section.batch_size or tokens > self.section.batch_tokens):
                made.append([])
                tokens = len(examples[index][0])
            made[-1].append(index)
        return made

    def prepare(self, examples: list[Example], labels: NDArray[np.int64]) -> None:
        """A decoder needs no new head."""

    def collate(self, examples: list[Example], generator: Any) -> tuple[Any, ...]:
        """Tokens, their places in the text, the number of their window (-1 for padding), what each is to predict, and the example of each window."""
        import torch

        pieces = [(number, *window) for number, example in enumerate(examples) for window in windows(example, self.max_length)]
        rows = packed([len(ids) for _, ids, _ in pieces], self.max_length)
        width = max(sum(len(pieces[piece][1]) for piece in row) for row in rows)
        tokens, places, texts, targets = (torch.full((len(rows), width), fill) for fill in (self.ends[1], 0, -1, IGNORED))
        for number, row in enumerate(rows):
            at = 0
            for piece in row:
                span = (number, slice(at, at := at + len(pieces[piece][1])))
                tokens[span], targets[span], texts[span] = torch.tensor(pieces[piece][1]), torch.tensor(pieces[piece][2]), piece
                places[span] = torch.arange(len(pieces[piece][1]))
        return tokens, places, texts, targets, torch.tensor([number for number, _, _ in pieces])

    def loss(self, outputs: Any, inputs: tuple[Any, ...], targets: Any) -> tuple[Any, float]:
        from torch.nn.functional import cross_entropy

        total = cross_entropy(outputs.float().flatten(0, 1), inputs[3].flatten(), reduction="sum", label_smoothing=self.section.label_smoothing)
        return total, float((inputs[3] != IGNORED).sum())

    def scores(self, outputs: Any, inputs: tuple[Any, ...]) -> Any:
        import torch

        _, _, texts, targets, owners = inputs
        counted = targets != IGNORED
        logits, wanted = outputs[counted].float(), targets[counted]
        known = torch.stack([torch.nn.functional.cross_entropy(logits, wanted, reduction="none"), torch.ones(len(wanted)), (logits.argmax(1) == wanted)], 1)
        return torch.zeros(int(owners.max()) + 1, COLUMNS, dtype=torch.float64).index_add(0, owners[texts[counted]], known.double())

    def measure(self, targets: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
        return measure(scores)

    def export(self, folder: Path) -> dict[str, Any]:
        """The decoder as ONNX with its memory of earlier tokens (keys and values) as input and output."""
        import torch

        files.write_text(folder / "tokenizer.json", json.dumps(json.loads(self.tokenizer.to_str()), ensure_ascii=False, sort_keys=True))
        decoder = stepwise(self.network.cpu().float().eval().model)
        inputs = (torch.zeros(3, 5, dtype=torch.long), torch.zeros(*decoder.memory[:2], 3, decoder.memory[2], 7, decoder.memory[3]))
        shape = ({0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}, {2: torch.export.Dim("rows"), 4: torch.export.Dim("past")})
        modalities.export_onnx(decoder, inputs, ["input_ids", "past"], shape, folder / "model.onnx", ["logits", "present"])
        return {"base": self.section.base, "max_length": self.max_length, "ends": list(self.ends), "memory": list(decoder.memory)}


def network(model: Any) -> Any:
    """The decoder for packed rows: each token sees those before it of its own text."""
    import torch

    class Tied(torch.nn.Module):
        """An output layer with the weights of the embeddings, which are then not there twice."""

        def __init__(self, embeddings: torch.nn.Module) -> None:
            super().__init__()
            self.of = [embeddings]

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(hidden, self.of[0].weight)  # type: ignore[arg-type]

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, places: torch.Tensor, texts: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
            same = (texts[:, None, :, None] == texts[:, None, None, :]).tril()
            logits: torch.Tensor = self.model(input_ids=tokens, position_ids=places, attention_mask=same, use_cache=False).logits
            return logits

    if model.config.tie_word_embeddings:
        model.set_output_embeddings(Tied(model.get_input_embeddings()))
    return Decoder()


def stepwise(model: Any) -> Any:
    """The decoder that goes on: from new tokens and the memory of those before them to logits and the memory of all."""
    import torch
    from transformers import DynamicCache

    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    class Decoder(torch.nn.Module):
        memory = (config.num_hidden_layers, 2, heads, size)  # of each token, in each layer

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            cache, rows, seen = DynamicCache(), tokens.shape[0], past.shape[4]
            for layer in range(past.shape[0]):
                cache.update(past[layer, 0], past[layer, 1], layer)
            places = torch.arange(tokens.shape[1]) + seen
            before = (torch.arange(tokens.shape[1] + seen)[None] <= places[:, None])[None, None].expand(rows, -1, -1, -1)
            said = self.model(input_ids=tokens, position_ids=places[None].expand(rows, -1), attention_mask=before, past_key_values=cache, use_cache=True)
            return said.logits, torch.stack([torch.stack([layer.keys, layer.values]) for layer in said.past_key_values.layers])

    return Decoder()


class Predictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.labels: list[str] = about["labels"]
        self.max_length: int = about["max_length"]
        self.ends = (about["ends"][0], about["ends"][1])
        self.memory: list[int] = about["memory"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = modalities.session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[Row], tokens: int = 4096) -> NDArray[np.float64]:
        """For each row the sum of −log p over the tokens of its text, their number, and how many were the likeliest, shape (rows, 3)."""
        pieces = [(n, *window) for n, example in enumerate(encoded(self.tokenizer, self.ends, rows)) for window in windows(example, self.max_length)]
        pieces.sort(key=lambda piece: len(piece[1]))
        result = np.zeros((len(rows), COLUMNS))
        while pieces:
            count = max(1, tokens // len(pieces[-1][1]))
            batch, pieces = pieces[-count:], pieces[:-count]
            ids, targets = (np.full((len(batch), len(batch[-1][1])), fill, np.int64) for fill in (self.ends[1], IGNORED))
            for row, (_, seen, wanted) in enumerate(batch):
                ids[row, : len(seen)], targets[row, : len(seen)] = seen, wanted
            owners = np.array([owner for owner, _, _ in batch])
            logits = self.step(ids, self.nothing(len(batch)))[0]
            row, place = np.nonzero(targets != IGNORED)
            wanted, logits = targets[row, place], logits[row, place].astype(np.float64)
            highest = logits.max(1)
            loss = highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - logits[np.arange(len(wanted)), wanted]
            np.add.at(result, owners[row], np.stack([loss, np.ones(len(wanted)), logits.argmax(1) == wanted], 1))
        return result

    def step(self, ids: NDArray[np.int64], past: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, present = self.session.run(["logits", "present"], {"input_ids": ids, "past": past})
        return logits, present

    def nothing(self, rows: int) -> NDArray[np.float32]:
        """The memory of no token."""
        layers, pair, heads, size = self.memory
        return np.zeros((layers, pair, rows, heads, 0, size), np.float32)

    def go_on(self, prompt: str, tokens: int = 200) -> str:
        """The likeliest token after each (greedy decoding), until the text ends or has so many, or the context is full."""
        ids = [self.ends[0], *self.tokenizer.encode(prompt, add_special_tokens=False).ids][-self.max_length + 1 :]
        said: list[int] = []
        new, past = np.array([ids], np.int64), self.nothing(1)
        while len(said) < tokens and past.shape[4] + new.shape[1] <= self.max_length:
            logits, past = self.step(new, past)
            said.append(int(logits[0, -1].argmax()))
            if said[-1] == self.ends[1]:
                return self.tokenizer.decode(said[:-1])
            new = np.array([said[-1:]], np.int64)
        return self.tokenizer.decode(said) + "…"


def measure(scores: NDArray[np.float64]) -> dict[str, float]:
    loss, tokens, hits = scores.sum(0)
    return {"log_loss": loss / tokens, "perplexity": float(np.exp(loss / tokens)), "accuracy": hits / tokens, "exact_match": float((scores[:, 1] == scores[:, 2]).mean())}
