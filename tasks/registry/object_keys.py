"""Object keys."""


def evidence_key(model: str, version: str, champion: str | None, about: str = "") -> str:
    return f"{model}/evidence/{version}/{champion or 'none'}{about}.json"


def journal_key(model: str, channel: str, generation: int) -> str:
    return f"{model}/journal/{channel}/{generation:09d}.json"


def blob_key(model: str, digest: str) -> str:
    return f"{model}/blobs/sha256/{digest}"
