"""Pulling a version: a folder of its files, documents and signatures, for other tools to take."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.contracts import manifest as manifest_contract
from tasks.contracts.manifest import Manifest
from tasks.core.errors import ConfigError, StageError
from tasks.registry import bundles, documents, manifests, model_signature, object_keys
from tasks.registry.object_keys import (
    MANIFEST_NAME,
    PROVENANCE_NAME,
    PROVENANCE_SIGNATURE_NAME,
    SIGNATURE_NAME,
)
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import files, hashing, locks

README = "README.md"
CARD = "card.md"  # as it lies in the store
BILL_OF_MATERIALS = "bom.cdx.json"
DOCUMENTS = (
    README,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    PROVENANCE_NAME,
    PROVENANCE_SIGNATURE_NAME,
    BILL_OF_MATERIALS,
)

# Renders a card from the version's folder and manifest alone.
RenderCard = Callable[[Path, Manifest], str]


@dataclass(frozen=True)
class PulledVersion:
    """What was pulled.

    Attributes:
        manifest: What the version is.
        folder: Where it is.
        is_new: Whether it was fetched; False if it was there already, whole.
        warnings: What people should know of it.
    """

    manifest: Manifest
    folder: Path
    is_new: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of the version's files."""
        return sum(file.size for file in self.manifest.files.values())


def pull_version(
    registry: Registry, model: str, version: str, folder: Path, render_card: RenderCard
) -> PulledVersion:
    """Put a version into a folder, whole or not at all.

    What was fetched before a connection broke is not fetched again.

    Args:
        registry: The registry.
        model: The recipe's name.
        version: The version.
        folder: The folder; it may hold the same version, and nothing else.
        render_card: Renders a card for a version whose own is not signed.

    Raises:
        ConfigError: The folder holds something else, or cannot be written.
        UntrustedError: No trusted key has signed the version.
        UnsafeFileError: A file has a format or a name that no version may have.
    """
    target = folder.resolve()
    manifest = manifests.read_manifest(registry, model, version)
    refuse_other_content(target, manifest)
    if holds_version(registry, target, manifest):
        return PulledVersion(manifest, target, is_new=False)
    with explain_write_errors(target), claim_folder(target, version) as part:
        fetched = manifests.fetch_version(registry, model, version, part)
        warnings = list(write_documents(registry, fetched, manifest, render_card))
        files.make_readable(fetched)
        replace_folder(fetched, target)
    return PulledVersion(manifest, target, is_new=True, warnings=warnings)


def refuse_other_content(target: Path, manifest: Manifest) -> None:
    """Raise ConfigError if a folder holds something that is no part of this version."""
    if Path.cwd().is_relative_to(target):
        raise ConfigError(f"{target} is where you are: name a folder below it with --to.")
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"{target} is a file: name a folder with --to.")
    present = {
        path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()
    }
    if not present:
        return
    held = describe_held_version(target)
    if held != manifest.version:
        described = f"holds {held}" if held else "is not empty"
        raise ConfigError(
            f"{target} {described}, and {manifest.model} {manifest.version} was to be put there: "
            "name another folder with --to, or delete that one."
        )
    others = sorted(present.difference(manifest.files, DOCUMENTS))
    if others:
        raise ConfigError(
            f"{target} holds {manifest.version} and {others[0]}, which is no part of it and would "
            "be lost: move it away, or name another folder with --to."
        )


def describe_held_version(folder: Path) -> str | None:
    """Return the version whose manifest lies in a folder; None if there is none."""
    path = folder / MANIFEST_NAME
    return manifest_contract.derive_version(path.read_bytes()) if path.is_file() else None


def holds_version(registry: Registry, folder: Path, manifest: Manifest) -> bool:
    """Return whether a folder holds the version whole, with its signature and a card."""
    paths = [folder / README, folder / MANIFEST_NAME, folder / SIGNATURE_NAME]
    if not all(path.is_file() for path in paths):
        return False
    is_whole = all(
        (folder / name).is_file() and hashing.sha256(folder / name) == file.sha256
        for name, file in manifest.files.items()
    )
    signature = (folder / SIGNATURE_NAME).read_bytes()
    return is_whole and model_signature.is_signed(registry, manifest, signature)


@contextlib.contextmanager
def claim_folder(target: Path, version: str) -> Iterator[Path]:
    """Yield a neighbour of the folder to fetch into, which is this process's alone.

    It stays behind if the fetch breaks off, so that the next one goes on from there.
    """
    part = target.with_name(f".{target.name}.{version}.part")
    part.mkdir(parents=True, exist_ok=True)
    with locks.file_lock(part / "lock", wait=False) as is_held:
        if not is_held:
            raise StageError(
                f"Another process is pulling {version} to {target}: wait for it, or name another "
                "folder with --to."
            )
        yield part
        shutil.rmtree(part)


@contextlib.contextmanager
def explain_write_errors(target: Path) -> Iterator[None]:
    """Turn errors of the file system into sentences."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written ({error.strerror or error}): name another folder with "
            "--to, or make room there."
        ) from None


def write_documents(
    registry: Registry, folder: Path, manifest: Manifest, render_card: RenderCard
) -> Iterator[str]:
    """Write what lies beside the version's files; yield what people should know."""
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    (folder / SIGNATURE_NAME).write_bytes(read_signature(registry, manifest))
    yield from write_provenance(registry, folder, manifest)
    try:
        trusted = documents.read_documents(registry, manifest)
    except UntrustedError as error:
        yield f"{error} README.md was written from the signed manifest alone."
        trusted = {}
    card = trusted.get(CARD) or render_card(folder, manifest).encode()
    (folder / README).write_bytes(card)
    if BILL_OF_MATERIALS in trusted:
        (folder / BILL_OF_MATERIALS).write_bytes(trusted[BILL_OF_MATERIALS])


def read_signature(registry: Registry, manifest: Manifest) -> bytes:
    """Read the signature of a version, and verify these very bytes."""
    stored = registry.store.get(object_keys.signature_key(manifest.model, manifest.version))
    signature = stored[0] if stored else b""
    model_signature.verify_signature(registry, manifest, signature)
    return signature


def write_provenance(registry: Registry, folder: Path, manifest: Manifest) -> Iterator[str]:
    """Write how the version was made, as far as that is signed; yield what is not."""
    key = object_keys.provenance_signature_key(manifest.model, manifest.version)
    try:
        provenance = manifests.read_provenance(registry, manifest.model, manifest.version)
        stored = registry.store.get(key)
        if stored:
            bundles.verify_bundle(registry.keyring, stored[0], f"{registry.address}: {key}")
    except UntrustedError as error:
        yield f"{error} Its provenance was left out."
        return
    if provenance:
        (folder / PROVENANCE_NAME).write_bytes(provenance.to_bytes())
    if stored:
        (folder / PROVENANCE_SIGNATURE_NAME).write_bytes(stored[0])


def replace_folder(source: Path, target: Path) -> None:
    """Give a folder its name; what has the name now is deleted afterwards."""
    if not target.exists():
        source.replace(target)
        return
    old = source.with_name("old")
    target.replace(old)
    source.replace(target)
