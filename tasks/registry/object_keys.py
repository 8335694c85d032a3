"""Where the objects of models lie in the store. No other module spells their names.

blobs/sha256/<hex>                          contents, named by their hash, of all models
<model>/versions/<version>/manifest.json    what the version is; its hash is the version's name
<model>/versions/<version>/provenance.json  who made it first, when, where and with which code
<model>/versions/<version>/model.sig        signature over the manifest and every file
<model>/versions/<version>/provenance.sig   signed provenance, with the gate's verdict
<model>/versions/<version>/documents.sig    signature over the model card and the bill of materials
<model>/evidence/<channel>/<version>/<champion>.json  the gate's verdict on that pair; `none` for no
                                            champion
<model>/evidence/<channel>/<version>/<champion>-<hash>.json  the same, if a person overrode it
<model>/comparisons/<champion>/<number>.json  which version the champion was compared with
<model>/channels/<channel>.json             the pointer: the only object that ever changes
<model>/journal/<channel>/<generation>.json  one record for each promotion
<model>/signings/<hash>.json                who vouched for objects that were not signed
<model>/runs/<run>.json                     one record for each run
"""

# The names of what lies beside the files of a version, in the store and where it is fetched to.
MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "model.sig"
PROVENANCE_NAME = "provenance.json"
PROVENANCE_SIGNATURE_NAME = "provenance.sig"
# What a version has without any document.
VERSION_NAMES = frozenset(
    {MANIFEST_NAME, SIGNATURE_NAME, PROVENANCE_NAME, PROVENANCE_SIGNATURE_NAME}
)


def blob_key(sha256: str) -> str:
    """Return the key of a file's content."""
    return f"blobs/sha256/{sha256}"


def versions_prefix(model: str) -> str:
    """Return what the keys of all versions begin with."""
    return f"{model}/versions/"


def version_key(model: str, version: str, name: str) -> str:
    """Return the key of a version's manifest, or of a document beside it."""
    return f"{versions_prefix(model)}{version}/{name}"


def manifest_key(model: str, version: str) -> str:
    """Return the key of a version's manifest."""
    return version_key(model, version, MANIFEST_NAME)


def signature_key(model: str, version: str) -> str:
    """Return the key of a version's signature."""
    return version_key(model, version, SIGNATURE_NAME)


def provenance_signature_key(model: str, version: str) -> str:
    """Return the key of a version's signed SLSA provenance."""
    return version_key(model, version, PROVENANCE_SIGNATURE_NAME)


def documents_signature_key(model: str, version: str) -> str:
    """Return the key of the signature over the documents beside a version."""
    return version_key(model, version, "documents.sig")


def provenance_key(model: str, version: str) -> str:
    """Return the key of a version's provenance."""
    return version_key(model, version, PROVENANCE_NAME)


def evidence_key(
    model: str, channel: str, version: str, champion: str | None, suffix: str = ""
) -> str:
    """Return the key of the verdict on a version against a champion.

    Args:
        model: The recipe's name.
        channel: The channel that the version is for.
        version: The candidate.
        champion: The champion's version; None if nothing is in production.
        suffix: Tells an override from the verdict itself.
    """
    return f"{model}/evidence/{channel}/{version}/{champion or 'none'}{suffix}.json"


def evidence_prefix(model: str, channel: str | None = None) -> str:
    """Return what the keys of all evidence begin with, or of all evidence for one channel."""
    return f"{model}/evidence/{channel}/" if channel else f"{model}/evidence/"


def comparison_key(model: str, champion: str, number: int) -> str:
    """Return the key that says which version was the champion's comparison of this number."""
    return f"{model}/comparisons/{champion}/{number:06d}.json"


def channels_prefix(model: str) -> str:
    """Return what the keys of all pointers begin with."""
    return f"{model}/channels/"


def channel_key(model: str, channel: str) -> str:
    """Return the key of a channel's pointer."""
    return f"{channels_prefix(model)}{channel}.json"


def journals_prefix(model: str) -> str:
    """Return what the keys of the journals of all channels begin with."""
    return f"{model}/journal/"


def journal_prefix(model: str, channel: str) -> str:
    """Return what the keys of all records of a channel begin with."""
    return f"{journals_prefix(model)}{channel}/"


def journal_key(model: str, channel: str, generation: int) -> str:
    """Return the key of the record of one promotion."""
    return f"{journal_prefix(model, channel)}{generation:09d}.json"


def parse_generation(key: str) -> int:
    """Return the generation that the key of a record names; 0 if it names none."""
    digits = key.rpartition("/")[2].removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0


def signing_record_key(model: str, digest: str) -> str:
    """Return the key of the record of a person who signed objects by hand."""
    return f"{model}/signings/{digest}.json"


def run_key(model: str, run: str) -> str:
    """Return the key of a run's record."""
    return f"{model}/runs/{run}.json"
