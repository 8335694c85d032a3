"""The commands around keys: make a pair, list, trust and revoke public keys."""

from pathlib import Path

import click

from flows import terminal
from flows.command_options import JSON_OPTION, print_result


@click.group(epilog="Example: millrace keys list")
def keys() -> None:
    """Manage the keys that sign versions and promotions, and those that are trusted."""


@keys.command("new", epilog="Example: millrace keys new")
def create_key() -> None:
    """Make a key pair (ECDSA P-256): the private key signs here, its public key is trusted here.

    MILLRACE_KEY_PASSPHRASE encrypts the private key. A pair that is there stays trusted until it is
    revoked, so that keys can change while both are believed.
    """
    from tasks.registry import keys as keyring_files

    folder = keyring_files.default_folder()
    key_id = keyring_files.create_signing_key(folder)
    public = keyring_files.key_path(folder, "trusted", key_id)
    click.echo(f"Made the key {key_id}. Its private key is {keyring_files.signing_path(folder)}.")
    click.echo(f"On machines that read versions: millrace keys trust {public.name} (from {public})")


@keys.command("list", epilog="Example: millrace keys list --json")
@JSON_OPTION
def list_keys(as_json: bool) -> None:  # noqa: FBT001
    """List the keys that are known here: which one signs, which are trusted or revoked."""
    from tasks.registry import keys as keyring_files

    keyring = keyring_files.load_keyring(keyring_files.default_folder())
    signer = keyring.signer.key_id if keyring.signer else None
    states = [(key_id, "trusted") for key_id in sorted(keyring.trusted)]
    states += [(key_id, "revoked") for key_id in sorted(keyring.revoked)]
    rows = [{"key": key_id, "state": state, "signs": key_id == signer} for key_id, state in states]

    def print_rows() -> None:
        cells = [
            [key_id, state, "signs here" if key_id == signer else ""] for key_id, state in states
        ]
        empty = [["none", "", "`millrace keys new` makes one"]]
        terminal.print_table(f"Keys in {keyring.folder}", ["key", "state", ""], cells or empty)

    print_result(rows, print_rows, as_json=as_json)


@keys.command("trust", epilog="Example: millrace keys trust colleague.pem")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def trust_key(file: Path) -> None:
    """Trust the public key in FILE (PEM): what it has signed is believed here."""
    from tasks.registry import keys as keyring_files

    key = keyring_files.parse_public_key(file.read_bytes(), str(file))
    key_id = keyring_files.trust_key(keyring_files.default_folder(), key)
    click.echo(f"The key {key_id} is trusted.")


@keys.command("revoke", epilog="Example: millrace keys revoke 0123456789abcdef")
@click.argument("key")
def revoke_key(key: str) -> None:
    """Believe nothing any longer that KEY has signed.

    What is in production and was signed by it has to be signed anew by another key:
    `millrace verify RECIPE --sign --actor NAME`.
    """
    from tasks.registry import keys as keyring_files

    keyring_files.revoke_key(keyring_files.default_folder(), key)
    click.echo(f"The key {key} is revoked.")
