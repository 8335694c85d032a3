"""The names that a person may give a version: whole, a prefix as in git, or a channel's."""

import re

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.core.errors import ConfigError
from tasks.registry import channel_pointer, journal, manifests, verification
from tasks.registry.registry import Registry

MIN_PREFIX = 4
NAME_PATTERN = re.compile("[a-z0-9][a-z0-9-]*")
MAX_LISTED = 5


def resolve_version(registry: Registry, model: str, text: str) -> str:
    """Return the published version that a person means.

    Args:
        registry: The registry.
        model: The recipe's name.
        text: A version, the beginning of one that no other begins with, or the name of a channel,
            which stands for the version that the channel names now.

    Raises:
        ConfigError: No version is meant, or several.
        UntrustedError: The channel's pointer is not believed.
    """
    if not NAME_PATTERN.fullmatch(text):
        raise ConfigError(
            f"{text!r} is no version of {model}: name one by its digits, such as "
            "1a2b3c4d5e6f7081, by the first of them, or by a channel such as production."
        )
    versions = manifests.list_versions(registry, model)
    if text in versions:
        return text
    current = channel_pointer.read_pointer(registry, model, text)
    if current:
        return current.version
    matches = [version for version in versions if version.startswith(text)]
    if len(matches) == 1 and len(text) >= MIN_PREFIX:
        return matches[0]
    if matches:
        raise ConfigError(describe_ambiguity(model, text, matches))
    raise ConfigError(describe_unknown(registry, model, text, versions))


def resolve_versions(registry: Registry, model: str, text: str | None) -> list[str]:
    """Return the version that an option names; none if it was left out."""
    return [resolve_version(registry, model, text)] if text else []


def describe_ambiguity(model: str, text: str, matches: list[str]) -> str:
    """Say that a prefix is too short to name one version."""
    if len(matches) == 1:
        return (
            f"{text!r} is too short to name a version of {model}: give at least {MIN_PREFIX} "
            f"digits ({matches[0]})."
        )
    return (
        f"{text!r} may be {len(matches)} versions of {model}: {list_some(matches)}. Give more "
        "digits."
    )


def describe_unknown(registry: Registry, model: str, text: str, versions: list[str]) -> str:
    """Say that no published version has this name, and which there are."""
    if not versions:
        return f"{model} has no version yet: `millrace run {model}` trains and judges a first one."
    channels = verification.list_channels(registry, model)
    past = find_past_move(registry, model, channels, text)
    if past:
        return (
            f"{model} {past.version} was in {past.channel} in generation {past.generation}, but "
            "its files are no longer in the store: somebody deleted them; a run of the recipe at "
            "its commit makes them again."
        )
    return (
        f"{model} has no version {text!r}, and no channel of this name. Its versions: "
        f"{list_some(versions)}; its channels: {', '.join(channels) or 'none'}."
    )


def find_past_move(
    registry: Registry, model: str, channels: list[str], text: str
) -> ChannelPointer | None:
    """Return the last move with which a channel named such a version; None without one."""
    for channel in channels:
        for record in journal.read_history(registry, model, channel).records:
            if record.version.startswith(text):
                return record
    return None


def list_some(versions: list[str]) -> str:
    """Return the first versions, and how many more there are."""
    n_more = len(versions) - MAX_LISTED
    listed = ", ".join(versions[:MAX_LISTED])
    return f"{listed} and {n_more} more" if n_more > 0 else listed
