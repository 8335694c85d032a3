"""Speed, memory and scaling of cleaning, beside pandas, datatrove and datasketch.

All have the same rules.

make bench ARGS="-k data"
"""

import html
import os
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import clean, ingest
from tasks.cleaning import text
from tasks.recipe.loading import read_recipe
from tasks.rows import near_duplicates
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests.bench import documents
from tests.bench.measured import measured

ROWS = int(os.environ.get("BENCH_ROWS", 1_000_000))
RECIPE = """name: bench
modality: text
ingest: {kind: files, path: PATH}
columns: {id: id}
clean: {rules: [encoding, html, unicode, white_space, exact_duplicates]}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""


def ingested(source: str, target: str) -> int:
    recipe = Path(target) / "recipe.yaml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE.replace("PATH", f"{source}/*.parquet"))
    ingest.run(read_recipe(recipe), StagePaths(Path(target)))
    return int(files.read_json(Path(target) / "raw" / "snapshot.json")["rows"])


def cleaned(target: str) -> int:
    clean.run(read_recipe(Path(target) / "recipe.yaml"), StagePaths(Path(target)))
    return int(files.read_json(Path(target) / "clean" / "report.json")["rows"])


SCRIPTS = re.compile(r"(?is)<(script|style)\b.*?</(script|style)\s*>|<!--.*?-->")
BLOCKS = re.compile(rf"(?i)</?(?:{text.BLOCK_TAGS})(?:\s[^<>]*)?/?>")
INLINES = re.compile(rf"(?i)</?(?:{text.INLINE_TAGS})(?:\s[^<>]*)?/?>")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")


def with_pandas(source: str, target: str) -> int:
    """The same rules as a person writes them with pandas."""
    import ftfy
    import pandas as pd

    frame = pd.concat([pd.read_parquet(path) for path in sorted(Path(source).glob("*.parquet"))])
    text = frame["text"].map(ftfy.fix_encoding)
    plain = (
        text.str.replace(SCRIPTS, " ", regex=True)
        .str.replace(BLOCKS, "\n", regex=True)
        .str.replace(INLINES, "", regex=True)
    )
    text = plain.where(plain == text, plain.map(html.unescape))
    text = text.map(lambda value: unicodedata.normalize("NFC", value))
    for pattern, by in (
        (r"\r\n?", "\n"),
        (CONTROL, ""),
        (r"[^\S\n]+", " "),
        (r" ?\n ?", "\n"),
        (r"\n{3,}", "\n\n"),
    ):
        text = text.str.replace(pattern, by, regex=True)
    frame["text"] = text.str.strip()
    frame = frame.sort_values("id").drop_duplicates("text")
    frame.to_parquet(f"{target}.parquet")
    return len(frame)


def with_datatrove(source: str, target: str) -> int:
    """Apply the same rules as steps of a datatrove pipeline, with two workers if a step allows.

    Exact duplicates are found by datatrove's own three steps.
    """
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        ExactDedupConfig,
        ExactDedupFilter,
        ExactDedupSignature,
        ExactFindDedups,
    )
    from datatrove.pipeline.formatters import FTFYFormatter
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers.parquet import ParquetWriter

    config = ExactDedupConfig(text_of)
    off = dict.fromkeys(
        [
            "remove_terminal_escapes",
            "fix_latin_ligatures",
            "fix_character_width",
            "uncurl_quotes",
            "fix_line_breaks",
            "fix_surrogates",
            "remove_control_chars",
        ],
        False,
    )
    steps: list[list[Any]] = [
        [
            ParquetReader(source),
            FTFYFormatter(unescape_html=False, normalization=None, **off),
            ruled,
            ParquetWriter(f"{target}/clean"),
        ],
        [ParquetReader(f"{target}/clean"), ExactDedupSignature(f"{target}/sigs", config)],
        [ExactFindDedups(f"{target}/sigs", f"{target}/dups", config)],
        [
            ParquetReader(f"{target}/clean"),
            ExactDedupFilter(f"{target}/dups", config),
            ParquetWriter(f"{target}/out"),
        ],
    ]
    for number, step in enumerate(steps):
        tasks = 1 if number == 2 else 2
        LocalPipelineExecutor(
            step, tasks=tasks, workers=tasks, logging_dir=f"{target}/logs{number}"
        ).run()
    return sum(pq.read_metadata(path).num_rows for path in Path(target, "out").glob("*.parquet"))


def text_of(document: Any) -> Any:
    return document.text.encode()


def ruled(data: Any, rank: int = 0, world_size: int = 1) -> Any:
    """HTML, Unicode and white space, as one step of datatrove."""
    for document in data:
        plain = INLINES.sub("", BLOCKS.sub("\n", SCRIPTS.sub(" ", document.text)))
        text = unicodedata.normalize(
            "NFC", document.text if plain == document.text else html.unescape(plain)
        )
        text = re.sub(r"[^\S\n]+", " ", CONTROL.sub("", re.sub(r"\r\n?", "\n", text)))
        document.text = re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", text)).strip()
        yield document


def test_data_cleaning_beside_pandas_and_datatrove(tmp_path: Path) -> None:
    documents.write(tmp_path / "source", ROWS, files=4)
    measured(ingested, str(tmp_path / "source"), str(tmp_path / "ours"))
    ours = measured(cleaned, str(tmp_path / "ours"))
    print(f"\n{'':12} {'rows/s':>10} {'seconds':>8} {'peak MiB':>9} {'rows':>9} {'ours is':>8}")
    print(
        f"{'Millrace':12} {ROWS / ours.seconds:10,.0f} {ours.seconds:8.1f} {ours.peak:9,.0f} "
        f"{ours.result:9,}"
    )
    for name, peer in (("pandas", with_pandas), ("datatrove", with_datatrove)):
        theirs = measured(peer, str(tmp_path / "source"), str(tmp_path / name))
        print(
            f"{name:12} {ROWS / theirs.seconds:10,.0f} {theirs.seconds:8.1f} {theirs.peak:9,.0f} "
            f"{theirs.result:9,} {theirs.seconds / ours.seconds:7.1f}x"
        )
        assert abs(theirs.result - ours.result) <= 0.001 * ROWS


def test_data_cleaning_time_grows_linearly_and_memory_does_not(tmp_path: Path) -> None:
    largest = 10 * ROWS
    sizes = [
        size for size in (10_000, 100_000, 1_000_000, 5_000_000, 10_000_000) if size <= largest
    ]
    figures = []
    print(f"\n{'rows':>11} {'clean s':>8} {'rows/s':>9} {'peak MiB':>9} {'ingest s':>9}")
    for size in sizes:
        documents.write(tmp_path / "source", size, files=max(1, size // 250_000))
        before = measured(ingested, str(tmp_path / "source"), str(tmp_path / "ours"))
        found = measured(cleaned, str(tmp_path / "ours"))
        figures.append(found.seconds)
        print(
            f"{size:11,} {found.seconds:8.2f} {size / found.seconds:9,.0f} {found.peak:9,.0f} "
            f"{before.seconds:9.2f}",
            flush=True,
        )
        shutil.rmtree(tmp_path / "source")
        shutil.rmtree(tmp_path / "ours")
    slope, intercept = np.polyfit(sizes, figures, 1)
    power = np.polyfit(np.log(sizes[1:]), np.log(figures[1:]), 1)[0]
    print(
        f"fit: {intercept:.2f} s + {slope * 1e6:.2f} s a million rows; "
        f"from {sizes[1]:,} rows on time grows as rows to the power {power:.2f}"
    )
    assert slope > 0


def test_data_of_one_per_cent_more_costs_little(tmp_path: Path) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "ours")
    documents.write(tmp_path / "source", ROWS, files=4)
    full = [measured(ingested, source, target).seconds, measured(cleaned, target).seconds]
    documents.write(tmp_path / "more", ROWS // 100, seed=2)
    shutil.move(tmp_path / "more" / "00000.parquet", tmp_path / "source" / "99999.parquet")
    more = [measured(ingested, source, target).seconds, measured(cleaned, target).seconds]
    print(
        f"\n{'':12} {'ingest s':>9} {'clean s':>9}\n"
        f"{'all':12} {full[0]:9.2f} {full[1]:9.2f}\n"
        f"{'1 % more':12} {more[0]:9.2f} {more[1]:9.2f}"
    )
    print(f"appending 1 % costs {sum(more) / sum(full):.1%} of the whole")
    assert sum(more) < sum(full)


PLANTED = 2_000
NEAR = 0.8


def near_ours(path: str) -> set[tuple[int, int]]:
    texts = pq.read_table(path)["text"].to_pylist()
    return {(i, j) for i, j, _ in near_duplicates.find_near_pairs(texts, NEAR)}


def near_datasketch(path: str, count: int) -> set[tuple[int, int]]:
    """Find near-duplicates by datasketch's LSH over the same shingles in the same number of bands.

    Its candidates are not verified.
    """
    from datasketch import MinHash, MinHashLSH

    texts = pq.read_table(path)["text"].to_pylist()[-count:]
    bands = near_duplicates.count_bands(NEAR)
    index, found = (
        MinHashLSH(
            params=(bands, near_duplicates.HASHES_PER_BAND),
            num_perm=bands * near_duplicates.HASHES_PER_BAND,
        ),
        set(),
    )
    for row, content in enumerate(texts):
        sketch = MinHash(num_perm=bands * near_duplicates.HASHES_PER_BAND)
        sketch.update_batch(
            [shingle.encode() for shingle in near_duplicates.extract_shingles(content)]
        )
        found |= {(other, row) for other in index.query(sketch)}
        index.insert(row, sketch)
    return found


def test_data_near_duplicates_beside_datasketch(tmp_path: Path) -> None:
    """Compare rows a second and recall; all rows would take datasketch hours.

    It gets the last part of them, which has all planted pairs.
    """
    texts = list(dict.fromkeys(text for block in documents.blocks(ROWS) for text in block))
    chance, part = np.random.default_rng(3), 20_000
    start = len(texts) - (part - PLANTED)
    planted = []
    for number in range(PLANTED):
        words = texts[start + number].split(" ")
        for at in chance.integers(0, len(words), int(chance.integers(1, 6))):
            words[at] = "changed"
        planted.append((start + number, len(texts)))
        texts.append(" ".join(words))
    pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
    similar = [(i, j) for i, j in planted if jaccard(texts[i], texts[j]) >= NEAR]
    assert len(similar) > PLANTED / 4
    ours = measured(near_ours, str(tmp_path / "texts.parquet"))
    theirs = measured(near_datasketch, str(tmp_path / "texts.parquet"), part)
    shift = len(texts) - part
    rates = (len(texts) / ours.seconds, part / theirs.seconds)
    print(
        f"\n{'':12} {'rows/s':>10} {'recall':>7} {'rows':>10}  of {len(similar)} planted pairs "
        f"with a Jaccard similarity of at least {NEAR}"
    )
    our_recall = sum(pair in ours.result for pair in similar) / len(similar)
    shifted = [(i - shift, j - shift) for i, j in similar]
    their_recall = sum(pair in theirs.result for pair in shifted) / len(similar)
    print(
        f"{'Millrace':12} {rates[0]:10,.0f} {our_recall:7.3f} {len(texts):10,}  "
        f"peak {ours.peak:,.0f} MiB"
    )
    print(f"{'datasketch':12} {rates[1]:10,.0f} {their_recall:7.3f} {part:10,}")
    print(f"ours is {rates[0] / rates[1]:.1f}x")
    assert our_recall >= 0.95


def jaccard(one: str, other: str) -> float:
    a, b = near_duplicates.extract_shingles(one), near_duplicates.extract_shingles(other)
    return len(a & b) / len(a | b)
