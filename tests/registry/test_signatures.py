"""What a thief of the bucket's credentials can write is not believed, and is told in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.contracts.evidence import Override
from tasks.core.errors import ConfigError, StageError
from tasks.registry import (
    bundles,
    channel_pointer,
    gate_evidence,
    journal,
    keys,
    manifests,
    moves,
    object_keys,
    repair,
    signing,
    verification,
)
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage.object_store import ObjectStore
from tests.conftest import open_as_machine
from tests.registry import examples
from tests.registry.examples import CHANNEL

BY = Override(actor="ann", reason="a test")


@pytest.fixture
def machine(store: ObjectStore, tmp_path: Path) -> Registry:
    """A registry whose machine has keys and a memory of its own, so that a test may spoil them."""
    return open_as_machine(store, tmp_path / "machine")


def promote_two(registry: Registry, model: str, folder: Path) -> list[ChannelPointer]:
    """Promote two versions; return both pointers."""
    pointer = None
    pointers = []
    for content in ("first", "second"):
        version = examples.publish(registry, model, folder / content, content)
        pointer = examples.promote(registry, model, version, pointer).current
        assert pointer
        pointers.append(pointer.record)
    return pointers


def sign_as_thief(registry: Registry, pointer: ChannelPointer, folder: Path) -> bytes:
    """Sign a pointer with a key that nobody trusts."""
    thief = open_as_machine(registry.store, folder / "thief")
    return signing.sign_contract(thief.keyring, pointer).to_bytes()


def forge(pointer: ChannelPointer, **fields: object) -> bytes:
    """A pointer with other fields and the old signature."""
    return pointer.model_copy(update=fields).to_bytes()


FORGERIES: dict[str, tuple[str, Callable[[ChannelPointer, Registry, Path], bytes]]] = {
    "another version under the old signature": (
        "is not what the key",
        lambda pointer, registry, folder: forge(pointer, version="0" * 16),
    ),
    "a later generation under the old signature": (
        "is not what the key",
        lambda pointer, registry, folder: forge(pointer, generation=99),
    ),
    "without a signature": (
        "is not signed",
        lambda pointer, registry, folder: forge(pointer, generation=9, signature=None),
    ),
    "signed by a stranger": (
        "which is not trusted here",
        lambda pointer, registry, folder: sign_as_thief(registry, pointer, folder),
    ),
    "of another model": (
        "it was copied there",
        lambda pointer, registry, folder: signing.sign_contract(
            registry.keyring, pointer.model_copy(update={"model": "else"})
        ).to_bytes(),
    ),
    "a signature that is no base64": (
        "is not what the key",
        lambda pointer, registry, folder: pointer.to_bytes().replace(b'"value": "', b'"value": "#'),
    ),
    "half of it": (
        "has schema version None",
        lambda pointer, registry, folder: pointer.to_bytes()[:100],
    ),
    "a thousand brackets": (
        "has schema version None",
        lambda pointer, registry, folder: b"[" * 100_000,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_pointer_is_refused_told_and_repaired(
    machine: Registry, tmp_path: Path, name: str
) -> None:
    sentence, build = FORGERIES[name]
    model = f"forged-{list(FORGERIES).index(name)}"
    first, second = promote_two(machine, model, tmp_path)
    examples.put(machine, object_keys.channel_key(model, CHANNEL), build(second, machine, tmp_path))
    with pytest.raises(StageError, match=sentence):
        channel_pointer.read_pointer(machine, model, CHANNEL)
    history = journal.read_history(machine, model, CHANNEL)
    assert [record.version for record in history.records] == [second.version, first.version]
    assert sentence in history.faults[0]
    mended = repair.repair_channel(machine, model, CHANNEL)
    assert mended.remaining == []
    current = channel_pointer.read_pointer(machine, model, CHANNEL)
    assert current
    assert current.record == second


def test_an_old_pointer_that_is_put_back_is_refused_by_who_has_seen_a_later_one(
    machine: Registry, tmp_path: Path
) -> None:
    first, second = promote_two(machine, "replayed", tmp_path)
    examples.put(machine, object_keys.channel_key("replayed", CHANNEL), first.to_bytes())
    with pytest.raises(UntrustedError, match="this machine has seen generation 2"):
        channel_pointer.read_pointer(machine, "replayed", CHANNEL)
    # A machine that has seen nothing is told by the journal.
    newcomer = Registry(machine.store, machine.keyring, tmp_path / "newcomer")
    history = journal.read_history(newcomer, "replayed", CHANNEL)
    assert any("an old pointer was put back" in fault for fault in history.faults)
    assert repair.repair_channel(newcomer, "replayed", CHANNEL).remaining == []
    current = channel_pointer.read_pointer(machine, "replayed", CHANNEL)
    assert current
    assert current.version == second.version


def test_a_lost_pointer_is_no_first_promotion(machine: Registry, tmp_path: Path) -> None:
    first, second = promote_two(machine, "gone", tmp_path)
    machine.store.delete(object_keys.channel_key("gone", CHANNEL))
    current = channel_pointer.read_pointer(machine, "gone", CHANNEL)
    assert current
    assert (current.version, current.generation) == (second.version, 2)
    assert any(
        "is lost" in fault for fault in journal.read_history(machine, "gone", CHANNEL).faults
    )
    with pytest.raises(StageError, match="the evidence is for champion None"):
        examples_evidence = examples.evidence("gone", first.version)
        moves.promote(machine, examples.promotion(examples_evidence, current))
    result = examples.promote(machine, "gone", first.version, current)
    assert result.won
    assert result.current
    assert result.current.generation == 3
    assert journal.read_history(machine, "gone", CHANNEL).faults == []


def test_a_bucket_that_was_emptied_is_told_to_who_knows_better(
    machine: Registry, tmp_path: Path
) -> None:
    promote_two(machine, "emptied", tmp_path)
    for key in list(machine.store.list_names("emptied/")):
        machine.store.delete(key)
    with pytest.raises(UntrustedError, match="its journal are gone, but this machine has seen"):
        channel_pointer.read_pointer(machine, "emptied", CHANNEL)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_deleted_record_is_a_gap_or_comes_back(
    machine: Registry, tmp_path: Path, generation: int
) -> None:
    model = f"gap-{generation}"
    promote_two(machine, model, tmp_path)
    machine.store.delete(object_keys.journal_key(model, CHANNEL, generation))
    history = journal.read_history(machine, model, CHANNEL)
    if generation == 1:
        assert "no record that can be believed of generation 1" in history.faults[0]
        assert repair.repair_channel(machine, model, CHANNEL).remaining == history.faults
    else:  # the pointer stands in for it
        assert history.faults == []
        assert len(history.records) == 2
        assert len(repair.repair_channel(machine, model, CHANNEL).mended) == 1


def test_a_made_up_record_above_the_pointer_is_told_and_deleted(
    machine: Registry, tmp_path: Path
) -> None:
    _, second = promote_two(machine, "made-up", tmp_path)
    key = object_keys.journal_key("made-up", CHANNEL, 3)
    examples.put(machine, key, forge(second, generation=3, version="1" * 16))
    history = journal.read_history(machine, "made-up", CHANNEL)
    assert history.current
    assert history.current.version == second.version
    assert "is not what the key" in history.faults[0]
    assert repair.repair_channel(machine, "made-up", CHANNEL).remaining == []
    assert machine.store.get(key) is None


def test_evidence_that_nobody_signed_promotes_nothing(machine: Registry, tmp_path: Path) -> None:
    version = examples.publish(machine, "evidence", tmp_path, "x")
    forged = examples.evidence("evidence", version)
    key = gate_evidence.evidence_key(forged)
    examples.put(machine, key, forged.to_bytes())
    with pytest.raises(UntrustedError, match="is not signed"):
        gate_evidence.read_evidence(machine, "evidence", CHANNEL, version, None)
    with pytest.raises(UntrustedError, match="is not signed"):
        moves.promote(machine, examples.promotion(forged))
    assert channel_pointer.read_pointer(machine, "evidence", CHANNEL) is None


SPOILED_SIGNATURES: dict[str, tuple[str, Callable[[Registry, Path, str], bytes | None]]] = {
    "missing": ("is not signed", lambda registry, folder, other: None),
    "no bundle": ("is not a Sigstore bundle", lambda registry, folder, other: b"{}"),
    "of another version": (
        "is the signature of other files",
        lambda registry, folder, other: read(registry, object_keys.signature_key("signed", other)),
    ),
    "by a stranger": (
        "which is not trusted here",
        lambda registry, folder, other: bundles.sign_statement(
            open_as_machine(registry.store, folder / "thief").keyring, b"{}"
        ),
    ),
    "of another kind of statement": (
        "signs something else than a model",
        lambda registry, folder, other: bundles.sign_statement(registry.keyring, b"{}"),
    ),
}


def read(registry: Registry, key: str) -> bytes:
    stored = registry.store.get(key)
    assert stored
    return stored[0]


@pytest.mark.parametrize("name", SPOILED_SIGNATURES)
def test_a_version_without_a_good_signature_is_not_fetched(
    machine: Registry, tmp_path: Path, name: str
) -> None:
    sentence, build = SPOILED_SIGNATURES[name]
    version = examples.publish(machine, "signed", tmp_path / "a", name)
    other = examples.publish(machine, "signed", tmp_path / "b", f"not {name}")
    key = object_keys.signature_key("signed", version)
    spoiled = build(machine, tmp_path, other)
    if spoiled is None:
        machine.store.delete(key)
    else:
        examples.put(machine, key, spoiled)
    with pytest.raises(UntrustedError, match=sentence):
        manifests.fetch_version(machine, "signed", version, tmp_path / "cache")
    assert not (tmp_path / "cache" / version).exists()
    [check] = verification.verify_model(machine, "signed", [version])
    assert sentence in check.fault
    assert verification.sign_again(machine, "signed", "ann", [version]) == [key]
    assert manifests.fetch_version(machine, "signed", version, tmp_path / "cache").is_dir()


def test_what_a_revoked_key_signed_is_believed_only_once_it_is_signed_anew(
    machine: Registry, tmp_path: Path
) -> None:
    _, second = promote_two(machine, "revoked", tmp_path)
    folder = machine.keyring.folder
    [old] = machine.keyring.trusted
    keys.create_signing_key(folder)
    both = Registry(machine.store, keys.load_keyring(folder), machine.seen)
    assert channel_pointer.read_pointer(both, "revoked", CHANNEL)  # while keys change
    keys.revoke_key(folder, old)
    rotated = Registry(machine.store, keys.load_keyring(folder), machine.seen)
    for refused in (
        lambda: channel_pointer.read_pointer(rotated, "revoked", CHANNEL),
        lambda: manifests.read_manifest(rotated, "revoked", second.version),
    ):
        with pytest.raises(UntrustedError, match="which was revoked"):
            refused()
    assert any(check.fault for check in verification.verify_model(rotated, "revoked"))
    assert verification.sign_again(rotated, "revoked", "ann")
    assert [
        check.fault for check in verification.verify_model(rotated, "revoked") if check.fault
    ] == []
    current = channel_pointer.read_pointer(rotated, "revoked", CHANNEL)
    assert current
    assert examples.promote(rotated, "revoked", second.version, current).won
    with pytest.raises(StageError, match="was revoked"):
        keys.trust_key(folder, machine.keyring.trusted[old])


def test_a_forged_pointer_is_not_signed_by_mistake(machine: Registry, tmp_path: Path) -> None:
    _, second = promote_two(machine, "mistake", tmp_path)
    forged = forge(second, version="1" * 16)
    examples.put(machine, object_keys.channel_key("mistake", CHANNEL), forged)
    with pytest.raises(UntrustedError, match="is not what the key"):
        verification.sign_again(machine, "mistake", "ann")


def test_an_unsigned_pointer_beside_signed_records_is_not_signed_by_mistake(
    machine: Registry, tmp_path: Path
) -> None:
    _, second = promote_two(machine, "stripped", tmp_path)
    stripped = forge(second, version="1" * 16, signature=None)
    examples.put(machine, object_keys.channel_key("stripped", CHANNEL), stripped)
    with pytest.raises(UntrustedError, match="though other objects of its channel are"):
        verification.sign_again(machine, "stripped", "ann")


def test_what_is_older_than_signatures_is_signed_for_a_person(
    machine: Registry, tmp_path: Path
) -> None:
    pointers = promote_two(machine, "older", tmp_path)
    for key in machine.store.list_names("older/"):
        if key.endswith(".sig"):
            machine.store.delete(key)
        elif "/channels/" in key or "/journal/" in key or "/evidence/" in key:
            content = json.loads(read(machine, key)) | {"signature": None}
            examples.put(machine, key, json.dumps(content).encode())
    with pytest.raises(UntrustedError, match="is not signed"):
        channel_pointer.read_pointer(machine, "older", CHANNEL)
    assert len(verification.sign_again(machine, "older", "ann")) == 7
    checks = list(verification.verify_model(machine, "older"))
    assert [check.fault for check in checks if check.fault] == []
    history = journal.read_history(machine, "older", CHANNEL)
    assert [record.version for record in history.records] == [
        pointers[1].version,
        pointers[0].version,
    ]


def test_a_machine_with_public_keys_alone_reads_and_does_not_publish(
    machine: Registry, tmp_path: Path
) -> None:
    _, second = promote_two(machine, "readers", tmp_path)
    for key in machine.keyring.trusted.values():
        keys.trust_key(tmp_path / "reader", key)
    keyring, is_new = keys.load_or_create_keyring(tmp_path / "reader")
    assert not is_new
    reader = Registry(machine.store, keyring, tmp_path / "seen")
    current = channel_pointer.read_pointer(reader, "readers", CHANNEL)
    assert current
    assert manifests.fetch_version(reader, "readers", second.version, tmp_path / "cache").is_dir()
    with pytest.raises(StageError, match="holds no private key"):
        examples.publish(reader, "readers", tmp_path / "more", "more")
    with pytest.raises(StageError, match="holds no private key"):
        moves.set_frozen(reader, current, BY, frozen=True)


def test_a_private_key_is_private_and_may_be_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_KEY_PASSPHRASE", "swordfish")
    key_id = keys.create_signing_key(tmp_path / "keys")
    path = keys.signing_path(tmp_path / "keys")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert b"ENCRYPTED" in path.read_bytes()
    keyring = keys.load_keyring(tmp_path / "keys")
    assert keyring.signer
    assert keyring.signer.key_id == key_id
    for passphrase in ("", "shark"):
        monkeypatch.setenv("MILLRACE_KEY_PASSPHRASE", passphrase)
        with pytest.raises(StageError, match="MILLRACE_KEY_PASSPHRASE") as error:
            keys.load_keyring(tmp_path / "keys")
        assert "swordfish" not in str(error.value)
    path.chmod(0o644)
    with pytest.raises(StageError, match="chmod 600"):
        keys.load_keyring(tmp_path / "keys")


@pytest.mark.parametrize("content", ["", "-----BEGIN PUBLIC KEY-----", "ed25519"])
def test_what_is_no_key_on_p256_is_refused(tmp_path: Path, content: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    data = content.encode()
    if content == "ed25519":
        data = (
            ed25519.Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    with pytest.raises(StageError, match="is not a public key on the curve P-256"):
        keys.parse_public_key(data, "key.pem")
    with pytest.raises(ConfigError, match="is no trusted key"):
        keys.revoke_key(tmp_path, "0123")


def test_a_rollback_names_an_older_version_and_freezes(machine: Registry, tmp_path: Path) -> None:
    first, second = promote_two(machine, "back", tmp_path)
    current = channel_pointer.require_pointer(machine, "back", CHANNEL)
    target = moves.find_target(machine, current.record, None)
    assert target == first.version
    result = moves.roll_back(machine, current, target, BY)
    assert result.won
    assert result.current
    record = result.current.record
    assert (record.version, record.action, record.frozen) == (first.version, "rollback", True)
    assert record.previous is None  # what was rolled back is nothing to fall back to
    with pytest.raises(StageError, match=r"is frozen since .* by ann \(a test\)"):
        examples.promote(machine, "back", second.version, result.current)
    overridden = examples.evidence("back", second.version, "reject", first.version, BY)
    by_person = moves.promote(machine, examples.promotion(overridden, result.current))
    assert by_person.won
    assert by_person.current
    lifted = moves.set_frozen(machine, by_person.current, BY, frozen=False).current
    assert lifted
    assert examples.promote(machine, "back", first.version, lifted).won
    history = journal.read_history(machine, "back", CHANNEL)
    actions = [record.action for record in history.records]
    assert actions == ["promote", "unfreeze", "promote", "rollback", "promote", "promote"]
    assert history.faults == []


@pytest.mark.parametrize("to", ["0" * 16, "second"])
def test_a_rollback_to_what_was_never_there_or_is_there_is_refused(
    machine: Registry, tmp_path: Path, to: str
) -> None:
    model = f"back-{to}"
    _, second = promote_two(machine, model, tmp_path)
    target = second.version if to == "second" else to
    sentence = "already" if to == "second" else "was never in production"
    with pytest.raises(ConfigError, match=sentence):
        moves.find_target(machine, second, target)


def test_each_file_of_a_version_with_one_flipped_bit_is_refused(
    machine: Registry, tmp_path: Path
) -> None:
    version = examples.publish(machine, "flipped", tmp_path / "a", "weights " * 100)
    manifest = manifests.read_manifest(machine, "flipped", version)
    objects = [object_keys.manifest_key("flipped", version)]
    objects.append(object_keys.signature_key("flipped", version))
    objects.append(object_keys.provenance_key("flipped", version))
    objects += [object_keys.blob_key(file.sha256) for file in manifest.files.values()]
    for key in objects:
        good = read(machine, key)
        for position in (0, len(good) // 2, len(good) - 3):
            bad = bytearray(good)
            bad[position] ^= 1
            examples.put(machine, key, bytes(bad))
            [check] = verification.verify_model(machine, "flipped", [version])
            assert check.fault, (key, position)
        examples.put(machine, key, good)
    assert verification.verify_model(machine, "flipped", [version])
    assert json.loads(read(machine, objects[0]))["model"] == "flipped"
