"""What may be in a version is told by content, and a pickle is refused in any disguise."""

import bz2
import collections
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save

from tasks.registry import manifests
from tasks.registry.formats import version_files
from tasks.registry.formats.version_files import UnsafeFileError
from tasks.registry.registry import Registry
from tests.registry import examples

CODE = "which may run any code when it is read"


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


def pickled(value: Any, protocol: int) -> bytes:
    return pickle.dumps(value, protocol)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("pickle")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def saved(save_to: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save_to(buffer)
    return buffer.getvalue()


OBJECTS = np.array([{"a": 1}, None], dtype=object)
WEIGHTS = {"w": torch.ones(2)}
PROTOCOL_0 = pickled(Payload(), 0)
PROTOCOL_4 = pickled(Payload(), 4)
# Content by what it is, under a name that says something else.
DISGUISES: dict[str, tuple[str, bytes, str]] = {
    **{
        f"a call, protocol {protocol}": (
            "config.json",
            pickled(Payload(), protocol),
            f"is a pickle (protocol {protocol if protocol > 1 else '0 or 1'}), {CODE}",
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    **{
        f"plain values, protocol {protocol}": (
            "model.safetensors",
            pickled({"weights": [1.5, 2.5], "name": "x" * 300}, protocol),
            "is a pickle (protocol ",
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "a class, protocol 2": ("a.txt", pickled(collections.OrderedDict(a=1), 2), "is a pickle"),
    "text before the end": ("notes.md", PROTOCOL_0 + b"# Notes\n\nmore text\n", "is a pickle"),
    "a call, and then damage": ("a.csv", b"cos\nsystem\n(S'id'\ntR\xff\xff", "is a pickle"),
    "a call that leaves values on the stack": ("a.csv", b"I1\n" + PROTOCOL_0, "is a pickle"),
    "an instance, protocol 0": ("a.txt", b"(S'id'\nios\nsystem\n.", "is a pickle"),
    "an import alone": ("a.txt", b"cantigravity\nfly\n", "is a pickle"),
    "a class of an unknown package": ("a.txt", b"cevil.module\nRun\n(tR.", "is a pickle"),
    "padded by values that are thrown away": (
        "vocab.txt",
        b"V" + b"x" * 100_000 + b"\n0" + PROTOCOL_0,
        "is a pickle",
    ),
    "cut off": (
        "model.bin",
        PROTOCOL_4[:7],
        "is damaged, and begins like what is a pickle (protocol 4)",
    ),
    "torch.save": (
        "model.safetensors",
        saved(lambda file: torch.save(WEIGHTS, file)),
        f"is a zip archive with a pickle in it (data.pkl), as torch.save writes it, {CODE}",
    ),
    "torch.save, as long ago": (
        "model.onnx",
        saved(lambda file: torch.save(WEIGHTS, file, _use_new_zipfile_serialization=False)),
        "is a pickle (protocol 2)",
    ),
    "a zip of a pickle": ("a.json", zipped(a_DOT_pkl=PROTOCOL_4), "with a pickle in it"),
    "a zip of other files": ("a.json", zipped(a_DOT_txt=b"text"), "is a zip archive"),
    "joblib": ("model.json", pickled({"array": np.ones(3)}, 3), "is a pickle (protocol 3)"),
    "joblib with zlib": (
        "model.json",
        zlib.compress(PROTOCOL_4),
        f"is compressed with zlib, and inside it is a pickle (protocol 4), {CODE}",
    ),
    "gzip": ("a.json", gzip.compress(PROTOCOL_4), "is compressed with gzip, and inside it is a"),
    "gzip of text": ("a.txt", gzip.compress(b"text"), "is compressed with gzip."),
    "bzip2": ("a.json", bz2.compress(PROTOCOL_0), "is compressed with bzip2, and inside it is a"),
    "xz": ("a.json", lzma.compress(PROTOCOL_4), "is compressed with xz, and inside it is a pick"),
    "lzma": (
        "a.json",
        lzma.compress(PROTOCOL_4, lzma.FORMAT_ALONE),
        "is compressed with lzma, and inside it is a pickle",
    ),
    "zstd": ("a.parquet", b"\x28\xb5\x2f\xfd" + b"\x04" * 20, "is compressed with zstd"),
    "npy of objects": (
        "rows.parquet",
        saved(lambda file: np.save(file, OBJECTS)),
        f"is a NumPy array of objects, which are pickled, {CODE}",
    ),
    "npy": ("rows.parquet", saved(lambda file: np.save(file, np.ones(3))), "is a NumPy array."),
    "npz of objects": (
        "rows.json",
        saved(lambda file: np.savez(file, a=OBJECTS)),
        "is a zip archive of NumPy arrays",
    ),
    "tar": ("a.md", tarred(PROTOCOL_4), "is a tar archive"),
    "HDF5": ("model.onnx", b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
    "HDF5 that begins later": (
        "model.onnx",
        b"\x01" * 512 + b"\x89HDF\r\n\x1a\n" + bytes(100),
        "is an HDF5 file",
    ),
    "Parquet with a pickled type": ("t.parquet", b"", "is Parquet with a type that is pickled"),
    "a program": ("tokenizer.json", b"\x7fELF" + bytes(60), "is a program"),
    "a script": ("README.txt", b"#!/bin/sh\nid\n", "is a script"),
    "code of the model's own": (
        "config.json",
        b'{"auto_map": {"AutoModel": "code.Model"}}',
        "asks for Python code of the model's own (auto_map)",
    ),
    "SQLite": ("a.txt", b"SQLite format 3\x00", "is an SQLite database"),
    "bytes": ("a.txt", b"\x00\x01\x02", "is of an unknown format"),
    "text in UTF-16": ("a.txt", "text".encode("utf-16"), "is of an unknown format"),
    "text with a 0 after a while": (
        "a.txt",
        b"x" * 5000 + b"\x00",
        "begins like a text and has control characters later",
    ),
    "nested JSON": ("a.json", b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
}


def write_pickled_type(path: Path) -> None:
    """Write Parquet whose schema has a type that old versions of pyarrow unpickle."""
    field = pa.field("a", pa.int64(), metadata={"ARROW:extension:name": "arrow.py_extension_type"})
    pq.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), path)


def check(folder: Path) -> None:
    version_files.check_files(folder, examples.manifest_of("tiny", folder))


def refusal(folder: Path) -> str:
    with pytest.raises(UnsafeFileError) as refused:
        check(folder)
    return str(refused.value)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_file_that_may_run_code_or_hide_it_is_refused_by_name(
    tmp_path: Path, disguise: str
) -> None:
    name, content, sentence = DISGUISES[disguise]
    if content:
        (tmp_path / name).write_bytes(content)
    else:
        write_pickled_type(tmp_path / name)
    message = refusal(tmp_path)
    assert message.startswith("tiny ")
    assert f"{name} {sentence}" in message or sentence in message
    assert name in message
    assert message.endswith(
        "A version may hold safetensors, ONNX, JSON, Parquet, CSV, Markdown and other text: "
        "convert the file, or leave it out."
    )


def safetensors_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> Any:
    return {"dtype": dtype, "shape": shape or [1], "data_offsets": [start, end]}


SAFETENSORS = {
    "header longer than the file": (
        safetensors_of({"a": tensor(0, 4)}, length=999),
        "and the file",
    ),
    "header beyond all bounds": (safetensors_of(b"{", length=1 << 33), "its header would have"),
    "no JSON": (safetensors_of(b"{nothing}"), "its header is no JSON"),
    "a name twice": (safetensors_of(b'{"a": 1, "a": 2}'), "a name occurs twice"),
    "overlap": (
        safetensors_of({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)),
        "the tensor 'b' overlaps",
    ),
    "gap": (safetensors_of({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)), "follows a gap"),
    "more bytes": (safetensors_of({"a": tensor(0, 4)}, bytes(9)), "end at 4 of 9 bytes"),
    "fewer bytes": (safetensors_of({"a": tensor(0, 4)}, bytes(3)), "end at 4 of 3 bytes"),
    "another shape": (safetensors_of({"a": tensor(0, 4, [2])}, bytes(4)), "does not fill"),
    "end before the start": (safetensors_of({"a": tensor(8, 4)}, bytes(8)), "does not fill"),
    "negative": (safetensors_of({"a": tensor(-4, 0)}, bytes(4)), "does not describe tensors"),
    "number as text": (safetensors_of({"a": tensor("0", 4)}, bytes(4)), "(a.data_offsets.0)"),  # type: ignore[arg-type]
    "truth as number": (safetensors_of({"a": tensor(0, 4, [True])}, bytes(4)), "(a.shape.0)"),
    "unknown type": (safetensors_of({"a": tensor(0, 4, dtype="O")}, bytes(4)), "unknown type"),
    "another key": (safetensors_of({"a": {**tensor(0, 4), "code": ""}}, bytes(4)), "(a.code)"),
    "metadata": (safetensors_of({"__metadata__": {"a": 1}}), "its metadata are not texts"),
}


@pytest.mark.parametrize("damage", SAFETENSORS)
def test_the_header_of_safetensors_has_to_describe_all_bytes_once(
    tmp_path: Path, damage: str
) -> None:
    content, sentence = SAFETENSORS[damage]
    (tmp_path / "model.safetensors").write_bytes(content)
    assert sentence in refusal(tmp_path)


def build_onnx(domain: str = "", operator: str = "Relu", location: str | None = None) -> Any:
    """Build a model of one operator, whose weights may lie in another file."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
        weights.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "8"}.items():
            weights.external_data.add(key=key, value=value)
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 1)])


def hide_in_branch(model: Any) -> Any:
    """Put the graph of a model into a branch of another, where a walk over its nodes misses it."""
    outer = build_onnx()
    branch = helper.make_node("If", ["x"], ["z"], then_branch=model.graph, else_branch=model.graph)
    outer.graph.node.append(branch)
    return outer


def hide_in_function(model: Any) -> Any:
    """Put the nodes of a model into a function of another."""
    outer = build_onnx("own", "Twice")
    opsets = [helper.make_opsetid("", 18)]
    outer.functions.append(
        helper.make_function("own", "Twice", ["x"], ["y"], list(model.graph.node), opsets)
    )
    return outer


def hide_in_attribute(model: Any) -> Any:
    """Put the weights of a model into an attribute of another."""
    outer = build_onnx()
    outer.graph.node.append(
        helper.make_node("Constant", [], ["c"], value=model.graph.initializer[0])
    )
    return outer


EVIL = build_onnx("com.evil", "Run")
BAD_ONNX = {
    "an operator of another domain": (EVIL, "uses the operator Run of the domain com.evil"),
    "one inside of a branch": (hide_in_branch(EVIL), "uses the operator Run of the domain"),
    "one inside of a function": (hide_in_function(EVIL), "uses the operator Run of the domain"),
    "one that calls Python": (build_onnx("com.microsoft", "PythonOp"), "operator PythonOp"),
    "weights from elsewhere": (build_onnx(location="../w"), "from '../w', which the version does"),
    "weights from the system": (build_onnx(location="/etc/passwd"), "from '/etc/passwd', which"),
    "weights that are not listed": (build_onnx(location="other"), "from 'other', which"),
    "weights in an attribute": (hide_in_attribute(build_onnx(location="other")), "from 'other'"),
    "weights beyond the end": (build_onnx(location="short"), "beyond the end of 'short'"),
}


@pytest.mark.parametrize("fault", BAD_ONNX)
def test_onnx_may_use_built_in_operators_and_listed_files_alone(tmp_path: Path, fault: str) -> None:
    model, sentence = BAD_ONNX[fault]
    (tmp_path / "model.json").write_bytes(model.SerializeToString())
    (tmp_path / "short").write_text("1234")
    assert sentence in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"\x08", b"\x08\x07", b"\x08\xff\xff\xff", b"\x08\x07\x12\x04code"]
)
def test_what_begins_like_onnx_has_to_be_a_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert "model.onnx begins like ONNX and " in refusal(tmp_path)


GOOD: dict[str, bytes] = {
    "model.safetensors": save({"a": np.ones((2, 3), np.float32), "b": np.zeros(0)}),
    "model.onnx": build_onnx().SerializeToString(),
    "named.onnx": hide_in_function(build_onnx()).SerializeToString(),
    "quantized.onnx": build_onnx("com.microsoft", "FusedMatMul").SerializeToString(),
    "config.json": b'{"labels": ["no", "yes"]}',
    "history.jsonl": b'{"epoch": 1}\n{"epoch": 2}\n',
    "rows.parquet": saved(lambda file: pq.write_table(pa.table({"a": [b"\x80\x04."]}), file)),
    "rows.csv": b"class,score\nyes,1\nno,2\n",
    "one_column.csv": b"class\nyes\nno\n",
    "card.md": b"# A model\n\n(ours) or theirs\n",
    "letter.txt": "\ufeffMrs. Adaeze Lindholm, 漢字".encode(),
    "vocab.txt": b"cos\nlog\nsin\n"[4:],
    "empty.txt": b"",
    "1_Pooling/config.json": b"{}",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_a_version_may_hold_passes_under_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(GOOD[name])
    check(tmp_path)
    path.rename(path.with_name("renamed"))
    check(tmp_path)


@pytest.mark.parametrize("data", [bytes(8), b"\x08" * 8, b"\x80\x04\x95\x00" * 2, b"PAR1PAR1"])
def test_weights_of_a_model_have_no_format_of_their_own(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx.data").write_bytes(data)
    onnx.save(build_onnx(location="model.onnx.data"), str(tmp_path / "model.onnx"))
    check(tmp_path)
    (tmp_path / "model.onnx").unlink()
    assert "model.onnx.data " in refusal(tmp_path)


def test_weights_of_a_model_that_are_a_pickle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx.data").write_bytes(PROTOCOL_4)
    onnx.save(build_onnx(location="model.onnx.data"), str(tmp_path / "model.onnx"))
    assert "model.onnx.data is a pickle (protocol 4)" in refusal(tmp_path)


BAD_NAMES = [
    "../model.onnx",
    "/model.onnx",
    "a//b",
    "./a",
    "",
    ".",
    "a\\b",
    "a\nb",
    "c:model.onnx",
    "model.sig",
    "README.md",
    "readme.MD",
    "manifest.json",
    ".git/config",
    "a/.hidden",
    "trailing.",
    "folder /a",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_or_hides_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "good").write_text("text")
    manifest = examples.manifest_of("tiny", tmp_path)
    renamed = manifest.model_copy(update={"files": {name: manifest.files["good"]}})
    with pytest.raises(UnsafeFileError, match=r"tiny [0-9a-f]{16}: "):
        version_files.check_files(tmp_path, renamed, names=[])


@pytest.mark.parametrize("names", [("Model.onnx", "model.onnx"), ("a", "a/b"), ("A/b", "a/B")])
def test_names_that_clash_on_some_system_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    (tmp_path / "good").write_text("text")
    manifest = examples.manifest_of("tiny", tmp_path)
    file = manifest.files["good"]
    clashing = manifest.model_copy(update={"files": dict.fromkeys(names, file)})
    with pytest.raises(UnsafeFileError, match="cannot lie beside"):
        version_files.check_files(tmp_path, clashing, names=[])


def test_formats_are_checked_when_a_version_is_published(
    tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / "model.json").write_bytes(PROTOCOL_4)
    manifest = examples.manifest_of("disguised", tmp_path)
    with pytest.raises(UnsafeFileError, match=r"model\.json is a pickle \(protocol 4\)"):
        manifests.publish_version(registry, tmp_path, manifest, examples.provenance(manifest))
    assert not list(registry.store.list_names("disguised/"))


def test_formats_are_checked_when_a_version_is_fetched(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody with a trusted key may have published it without the check."""
    (tmp_path / "model.json").write_bytes(PROTOCOL_4)
    manifest = examples.manifest_of("disguised", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(version_files, "check_files", lambda *_: None)
        version = manifests.publish_version(
            registry, tmp_path, manifest, examples.provenance(manifest)
        )
    for _ in range(2):  # also if the files are there already
        with pytest.raises(UnsafeFileError, match="is a pickle"):
            manifests.fetch_version(registry, "disguised", version, tmp_path / "fetched")
