"""The resolved recipe: a typed file between the stages."""

from pathlib import Path

import pytest

from tasks.core.errors import StageError
from tasks.recipe import resolved
from tasks.recipe.resolved import ResolvedRecipe, SourceFingerprints
from tasks.storage import files
from tests import tiny


def test_the_file_has_the_sections_beside_the_sources(here: Path) -> None:
    recipe = tiny.recipe("tabular", here)
    fingerprints = SourceFingerprints(ingest={"rows.csv": "1"}, libraries={"torch": "2"})
    ResolvedRecipe(recipe=recipe, sources=fingerprints).write(resolved.resolved_path("tiny"))
    content = files.read_json(resolved.resolved_path("tiny"))
    assert content["train"]["epochs"] == recipe.train.epochs
    assert content["sources"]["ingest"] == {"rows.csv": "1"}
    assert resolved.read_resolved_recipe("tiny") == recipe
    assert resolved.read_fingerprints("tiny") == fingerprints


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema_version": 0}, "has schema version 0, but this Millrace reads version 1"),
        ({"trains": {}}, "is not a valid ResolvedRecipe (trains: "),
        ({"split": {"vall": 0.1}}, "is not a valid ResolvedRecipe (recipe.split.vall: "),
    ],
)
def test_another_file_is_refused_with_a_sentence(
    here: Path, change: dict[str, object], sentence: str
) -> None:
    path = resolved.resolved_path("tiny")
    content = ResolvedRecipe(recipe=tiny.recipe("tabular", here)).to_json()
    files.write_json(path, content | change)
    with pytest.raises(StageError) as caught:
        resolved.read_resolved_recipe("tiny")
    assert sentence in str(caught.value)
    assert "run the stage `resolve` again" in str(caught.value)
