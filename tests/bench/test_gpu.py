"""How much of a GPU training uses, beside transformers' Trainer.

The networks are an encoder of BERT-base's size and a decoder of about 125 million weights.

make bench ARGS="-k gpu"
BENCH_SMALL=1 make bench ARGS="-k gpu"    without a GPU, with tiny networks, to see that it runs

FLOPs are those of the model: 6 for each weight that multiplies and each token, 12 · layers · width
· length for attention (Chowdhery et al. 2022). They are compared with the rate of one large matrix
product on the same device, not with the vendor's figure. Texts have full length, so nothing is
padded.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.bench.measured import measured
from tests.bench.test_training import BASE, classes

SMALL = bool(os.environ.get("BENCH_SMALL"))
WARM, STEPS = (1, 2) if SMALL else (10, 40)
KINDS = {"encoder": (64, 128), "decoder": (16, 1024)}  # rows and tokens of a batch


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


class Size(NamedTuple):
    rows: int
    length: int
    layers: int
    width: int


def size(kind: str) -> Size:
    rows, length = KINDS[kind]
    return Size(2, 32, 2, 64) if SMALL else Size(rows, length, 12, 768)


def base(kind: str, folder: Path) -> None:
    """A model with random weights and MiniLM's tokenizer, as transformers saves it."""
    import torch
    import transformers

    from tasks.modalities import pretrained
    from tasks.recipe.train import Train

    tokenizer = transformers.AutoTokenizer.from_pretrained(
        pretrained.resolve_base_folder(Train(base=BASE))
    )
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    of = size(kind)
    same = {
        "vocab_size": len(tokenizer),
        "hidden_size": of.width,
        "num_hidden_layers": of.layers,
        "num_attention_heads": of.width // 64 or 1,
    }
    torch.manual_seed(0)
    if kind == "encoder":
        made = transformers.BertModel(
            transformers.BertConfig(**same, intermediate_size=4 * of.width),
            add_pooling_layer=False,
        )
    else:
        more = {
            "intermediate_size": round(of.width / 24) * 64,
            "max_position_embeddings": of.length,
            "tie_word_embeddings": True,
        }
        made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**same, **more))
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def texts(kind: str, steps: int) -> list[str]:
    """Words of one token each, more than a row holds."""
    words, chance, of = (
        ["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child"],
        np.random.default_rng(0),
        size(kind),
    )
    extra = (
        2 if kind == "decoder" else -2
    )  # what begins and ends a row; a decoder's row gives one token less to learn than it holds
    return [
        " ".join(chance.choice(words, of.length - extra if kind == "decoder" else of.length))
        for _ in range(of.rows * steps)
    ]


def waited() -> float:
    import torch

    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def ours(kind: str) -> tuple[float, float, float]:
    """Seconds of a step, of what the data path takes of it, and multiplying weights."""
    from tasks import modalities
    from tasks.modalities.causal_lm.trainer import CausalLmTrainer
    from tasks.problems.language import LanguageProblem
    from tasks.recipe.train import Train
    from tasks.training import optimizer
    from tasks.training.state import TrainingState
    from tasks.training.training_data import TrainingData

    optimizer.make_deterministic()
    of, rows = size(kind), texts(kind, WARM + STEPS)
    with tempfile.TemporaryDirectory() as folder:
        base(kind, Path(folder))
        section = Train(
            base=folder,
            batch_size=of.rows,
            batch_tokens=of.rows * of.length,
            max_length=of.length,
            compile=on_gpu(),
        )
        prompted = [{"prompt": "", "text": row} for row in rows]
        if kind == "encoder":
            adapter = modalities.get_modality("text").trainer(section, rows, classes(2))
        else:
            adapter = modalities.get_modality("causal_lm").trainer(
                section, prompted, LanguageProblem([], section)
            )
        encoded = adapter.encode(rows if kind == "encoder" else prompted)
        data = TrainingData(encoded, np.arange(len(rows)) % 2, [], np.zeros(0, np.int64))
        run = TrainingState(adapter, section, data, Path(folder) / "checkpoints")
        run.network.train()
        batches = run.steps(0)
        for batch in batches[:WARM]:
            run.update(batch, 1e-4)
        begun = waited()
        for batch in batches[WARM : WARM + STEPS]:
            run.update(batch, 1e-4)
        seconds = (waited() - begun) / STEPS
        begun = time.perf_counter()
        for batch in batches[WARM : WARM + STEPS]:
            adapter.collate([encoded[index] for index in batch[0]], None)
        names = {
            name: parameter.numel()
            for name, parameter in adapter.network.named_parameters()
            if parameter.ndim > 1
        }
        multiplying = sum(count for name, count in names.items() if "embed" not in name)
        if isinstance(adapter, CausalLmTrainer):
            multiplying += len(adapter.base_tokenizer) * of.width
        return seconds, (time.perf_counter() - begun) / STEPS, float(multiplying)


def theirs(kind: str) -> float:
    """Measure a step of the Trainer with bf16, fused AdamW and, on a GPU, torch.compile."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    of, rows, marks = size(kind), texts(kind, WARM + STEPS), []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(waited())

    with tempfile.TemporaryDirectory() as folder:
        base(kind, Path(folder))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        found = tokenizer(rows, truncation=True, max_length=of.length, return_token_type_ids=False)
        if kind == "encoder":
            network, found["labels"] = (
                transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder, num_labels=2
                ),
                [row % 2 for row in range(len(rows))],
            )
        else:
            network, found["labels"] = (
                transformers.AutoModelForCausalLM.from_pretrained(folder),
                found["input_ids"],
            )
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=of.rows,
            max_steps=WARM + STEPS,
            bf16=True,
            optim="adamw_torch_fused",
            torch_compile=on_gpu(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not on_gpu(),
        )
        data = datasets.Dataset.from_dict(dict(found))
        transformers.Trainer(
            network, arguments, train_dataset=data, callbacks=[Watch()], processing_class=tokenizer
        ).train()
    return (marks[-1] - marks[WARM - 1]) / STEPS


def peak() -> float:
    """FLOPs a second of a large product of bf16 matrices."""
    import torch

    where, side = ("cuda", 8192) if on_gpu() else ("cpu", 1024)
    one = torch.randn(side, side, device=where, dtype=torch.bfloat16)
    for _ in range(3):
        one @ one
    begun = waited()
    for _ in range(20):
        one @ one
    return 20 * 2 * side**3 / (waited() - begun)


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if on_gpu() else "CPU"


@pytest.mark.parametrize("kind", KINDS)
def test_gpu_beside_transformers_trainer(kind: str) -> None:
    if not SMALL and not measured(on_gpu).result:
        pytest.skip("needs a GPU; with BENCH_SMALL=1 it runs tiny networks without one")
    of = size(kind)
    seconds, data, multiplying = measured(ours, kind).result
    other, most, tokens = measured(theirs, kind).result, measured(peak).result, of.rows * of.length
    flops = tokens * (6 * multiplying + 12 * of.layers * of.width * of.length)
    print(
        f"\n{measured(device).result}: {kind} of {multiplying / 1e6:.0f} million multiplying "
        f"weights, {of.rows} rows of {of.length} tokens a step"
    )
    print(
        f"{tokens / seconds:,.0f} tokens/s, {flops / seconds / most:.1%} of the device's "
        f"{most / 1e12:.1f} TFLOP/s in products; {other / seconds:.2f}x the Trainer"
    )
    print(f"the data path takes {data * 1e3:.1f} of {seconds * 1e3:.1f} ms of a step")
    assert seconds < other
    assert data < seconds / 2
