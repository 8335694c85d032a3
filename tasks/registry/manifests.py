"""Versions in the store: publishing them, reading them and fetching their files."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.contracts import manifest as manifest_contract
from tasks.contracts.manifest import GOLDEN, Manifest, ModelFile
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.provenance import Provenance
from tasks.contracts.snapshot import Snapshot
from tasks.core.errors import StageError
from tasks.recipe.resolved import ResolvedRecipe
from tasks.registry import blobs, model_signature, object_keys, signing
from tasks.registry.formats import version_files
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import hashing, object_store
from tasks.storage.layout import StagePaths
from tasks.storage.object_store import ObjectStore

TRAINED_ON = "trained_on.parquet"


def list_model_files(folder: Path, info: ModelInfo | None = None) -> dict[str, ModelFile]:
    """Return the hash and size of every file of a model, by its path in the folder.

    Args:
        folder: The model's folder.
        info: The model's description, which says what serving needs; None if it needs all files.
    """
    return {
        name: ModelFile(
            sha256=digest,
            size=(folder / name).stat().st_size,
            serving=info is None or info.is_needed_to_serve(name),
        )
        for name, digest in hashing.hash_folder(folder).items()
    }


def hash_recipe(paths: StagePaths) -> str:
    """Return the hash of the resolved recipe, without the fingerprints of its sources.

    The fingerprints change with times and with versions of libraries. What they lead to is in
    the hashes of the data.
    """
    recipe = ResolvedRecipe.read(paths.recipe).recipe
    return hashing.hash_json(recipe.model_dump(mode="json"))


def hash_data(paths: StagePaths) -> dict[str, str]:
    """Return the hashes of the rows that a model was made from and tested on.

    These are the source's rows as they came, the labelled rows and the three splits. Reports,
    pages and caches of the same stages are left out: they may change while the rows stay.
    """
    partitions = Snapshot.read(paths.raw.snapshot).partitions
    hashes = {
        "raw": hashing.hash_json([partition.sha256 for partition in partitions]),
        "labelled": hashing.sha256(paths.labelled.rows),
    }
    for table in paths.split.tables():
        hashes[f"split/{table.stem}"] = hashing.sha256(table)
    return hashes


def publish_version(
    registry: Registry, folder: Path, manifest: Manifest, provenance: Provenance
) -> str:
    """Upload a version: its files, then its manifest, then its signature. It is safe to repeat.

    Args:
        registry: The registry.
        folder: The folder with the files that the manifest names.
        manifest: What the version is.
        provenance: How it was made; kept only if the version is new.

    Returns:
        The version.

    Raises:
        StageError: The store gives back other bytes than were written, or this machine has no key
            to sign with.
        UnsafeFileError: A file has a format or a name that no version may have.
    """
    registry.keyring.require_signer()
    version_files.check_files(folder, manifest)
    store = registry.store
    blobs.upload_files(store, folder, manifest)
    version = manifest.version
    object_store.create_or_get(
        store,
        object_keys.provenance_key(manifest.model, version),
        signing.sign_contract(registry.keyring, provenance).to_bytes(),
    )
    object_store.create_once(
        store, object_keys.manifest_key(manifest.model, version), manifest.to_bytes()
    )
    model_signature.sign_version(registry, manifest)
    return version


def read_manifest(registry: Registry, model: str, version: str) -> Manifest:
    """Read the manifest of a version, and check its name and its signature.

    Raises:
        StageError: It is missing, or its hash is not the version's name.
        UntrustedError: No trusted key has signed it.
    """
    manifest = read_unsigned_manifest(registry, model, version)
    model_signature.verify_version_signature(registry, manifest)
    return manifest


def read_unsigned_manifest(registry: Registry, model: str, version: str) -> Manifest:
    """Read the manifest of a version, and check its name alone."""
    key = object_keys.manifest_key(model, version)
    stored = registry.store.get(key)
    if stored is None:
        raise untrusted_manifest_error(registry, model, version, "missing")
    data, _ = stored
    if manifest_contract.derive_version(data) != version:
        raise untrusted_manifest_error(registry, model, version, "not the one that its name says")
    manifest = Manifest.parse_bytes(data, f"{registry.address}: {key}")
    if manifest.model != model or manifest.to_bytes() != data:
        raise untrusted_manifest_error(registry, model, version, f"that of {manifest.model}")
    return manifest


def untrusted_manifest_error(
    registry: Registry, model: str, version: str, fault: str
) -> UntrustedError:
    """Return the error for a manifest that is missing or damaged."""
    return UntrustedError(
        f"{registry.address}: the manifest of {model} {version} is {fault}; the version "
        "cannot be trusted."
    )


def read_provenance(registry: Registry, model: str, version: str) -> Provenance | None:
    """Read how a version was made; None if it was not recorded.

    Raises:
        StageError: The object is not a provenance.
        UntrustedError: It is of another version, or not signed by a trusted key.
    """
    provenance = read_unsigned_provenance(registry, model, version)
    if provenance:
        key = object_keys.provenance_key(model, version)
        signing.verify_contract(registry.keyring, provenance, f"{registry.address}: {key}")
    return provenance


def read_unsigned_provenance(registry: Registry, model: str, version: str) -> Provenance | None:
    """Read how a version was made, and check that it is of this version."""
    key = object_keys.provenance_key(model, version)
    stored = registry.store.get(key)
    if stored is None:
        return None
    name = f"{registry.address}: {key}"
    provenance = Provenance.parse_bytes(stored[0], name)
    if (provenance.model, provenance.version) != (model, version):
        raise UntrustedError(
            f"{name} is the provenance of {provenance.model} {provenance.version}: it was copied "
            "there; it is not believed."
        )
    return provenance


def list_versions(registry: Registry, model: str) -> list[str]:
    """Return the published versions of a model, sorted."""
    prefix = object_keys.versions_prefix(model)
    suffix = f"/{object_keys.MANIFEST_NAME}"
    keys = [key for key in registry.store.list_names(prefix) if key.endswith(suffix)]
    return sorted(key.removeprefix(prefix).removesuffix(suffix) for key in keys)


def count_known_rows(registry: Registry, model: str, ids: Iterable[str]) -> dict[str, int | None]:
    """Count for each version how many of these rows it knows.

    It was trained on them, or keeps them among its golden requests.

    Returns:
        The count by version; None if the version does not say what it was trained on.
    """
    hashes = pa.array(sorted(hashing.hash_row_id(row_id) for row_id in ids), pa.binary(8))
    counts: dict[str, int | None] = {}
    for version in list_versions(registry, model):
        manifest = read_unsigned_manifest(registry, model, version)
        trained_on = read_row_ids(registry.store, manifest, TRAINED_ON)
        golden = read_row_ids(registry.store, manifest, GOLDEN)
        if trained_on is None:
            counts[version] = None
        else:
            known = pa.chunked_array([*trained_on.chunks, *(golden.chunks if golden else [])])
            counts[version] = int(pc.sum(pc.is_in(hashes, known)).as_py() or 0)
    return counts


def read_row_ids(store: ObjectStore, manifest: Manifest, name: str) -> pa.ChunkedArray | None:
    """Read the hashed ids of the rows in a version's file; None without it, or if damaged."""
    file = manifest.files.get(name)
    if file is None:
        return None
    stored = store.get(object_keys.blob_key(file.sha256))
    if stored is None or hashlib.sha256(stored[0]).hexdigest() != file.sha256:
        return None
    return pq.read_table(io.BytesIO(stored[0]), columns=["id"])["id"]


def fetch_version(
    registry: Registry, model: str, version: str, folder: Path, *, serving_only: bool = False
) -> Path:
    """Fetch the files of a version, and check each against its signed manifest.

    A file that is there already and has the right bytes is not fetched again.

    Args:
        registry: The registry.
        model: The recipe's name.
        version: The version.
        folder: Where to put it, in a folder of its name.
        serving_only: Whether to leave out what answering requests does not need.

    Returns:
        The version's folder.

    Raises:
        StageError: A file is damaged, or its name leads out of the folder.
        UntrustedError: No trusted key has signed the version.
        UnsafeFileError: A file has a format or a name that no version may have.
    """
    target = (folder / version).resolve()
    manifest = read_manifest(registry, model, version)
    wanted = manifest.serving_files if serving_only else manifest.files
    for name in wanted:
        if not (target / name).resolve().is_relative_to(target):
            raise StageError(
                f"{model} {version}: its manifest names the file {name!r} outside its folder; "
                "the version cannot be trusted."
            )
    blobs.fetch_files(registry.store, manifest, wanted, target)
    version_files.check_files(target, manifest, wanted)
    return target
