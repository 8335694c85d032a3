"""Versions as people name them, against a real S3 server."""

from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.registry import object_keys, version_names
from tasks.registry.registry import Registry
from tests.registry import examples


@pytest.fixture(scope="module")
def versions(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two versions of a model; the first is in production."""
    folder = tmp_path_factory.mktemp("named")
    published = [
        examples.publish(registry, "named", folder / content, content) for content in ("a", "b")
    ]
    examples.promote(registry, "named", published[0], None)
    return published


def test_a_version_is_named_whole_by_its_beginning_or_by_its_channel(
    registry: Registry, versions: list[str]
) -> None:
    for text in (versions[0], versions[0][:5], "production"):
        assert version_names.resolve_version(registry, "named", text) == versions[0]
    assert version_names.resolve_version(registry, "named", versions[1][:5]) == versions[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ffffff", "no version 'ffffff', and no channel of this name. Its versions: .*; its ch"),
        ("staging", "no channel of this name. Its versions: .*; its channels: production"),
        ("../b", "'../b' is no version of named: name one by its digits"),
        ("", "'' is no version of named"),
    ],
)
def test_a_name_of_no_version_is_told_with_those_that_there_are(
    registry: Registry, versions: list[str], text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        version_names.resolve_version(registry, "named", text)


def test_a_beginning_that_is_short_or_of_several_versions_is_refused(
    registry: Registry, versions: list[str]
) -> None:
    with pytest.raises(ConfigError, match="too short to name a version of named: give at least 4"):
        version_names.resolve_version(registry, "named", versions[0][:2])
    twin = versions[0][:8] + "f" * 8
    key = object_keys.manifest_key("named", twin)
    examples.put(registry, key, b"{}")
    with pytest.raises(ConfigError, match=r"may be 2 versions of named: .*\. Give more digits"):
        version_names.resolve_version(registry, "named", versions[0][:8])
    registry.store.delete(key)


def test_a_version_that_is_gone_but_was_in_production_is_told_so(
    registry: Registry, tmp_path: Path
) -> None:
    gone = examples.publish(registry, "gone", tmp_path / "a", "a")
    other = examples.publish(registry, "gone", tmp_path / "b", "b")
    first = examples.promote(registry, "gone", gone, None).current
    examples.promote(registry, "gone", other, first)
    registry.store.delete(object_keys.manifest_key("gone", gone))
    with pytest.raises(
        ConfigError, match="was in production in generation 1, but its files are no"
    ):
        version_names.resolve_version(registry, "gone", gone[:6])
    with pytest.raises(ConfigError, match="never-run has no version yet"):
        version_names.resolve_version(registry, "never-run", gone)
