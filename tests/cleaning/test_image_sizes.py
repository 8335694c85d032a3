"""Images of several sizes and modes: resized, dropped with a word, or refused; and then served."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks import modalities
from tasks import train as training
from tasks.cleaning import RULES
from tasks.contracts.model_info import ImageInput, ModelInfo
from tasks.core.errors import StageError
from tasks.rows.image_decoding import ResizeMethod, resize_image
from tests import tiny
from tests.data_stages import PATHS, build_recipe, run_stages, write_inputs

CLEAN = {"rules": ["unreadable", {"resize": {"to": [16, 12], "how": "pad"}}, "exact_duplicates"]}


def photo(number: int, *, is_light: bool) -> bytes:
    """A photo of 14 to 20 pixels a side, every third of them grey."""
    rng = np.random.default_rng(number)
    height = 14 + number % 7
    width = 14 + number % 5
    shape = (height, width) if number % 3 == 0 else (height, width, 3)
    return tiny.encode_image((rng.random(shape) * 100 + 150 * is_light).astype("uint8"))


def write_photos(count: int = 40) -> None:
    write_inputs(
        {
            f"pics/{'light' if number % 2 else 'dark'}/{number}.png": photo(
                number, is_light=bool(number % 2)
            )
            for number in range(count)
        }
    )


def test_what_is_dropped_for_its_size_says_so(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos()
    recipe = build_recipe("image", ingest={"kind": "images", "path": "pics"}, max_dropped=0.5)
    run = run_stages(recipe, capsys, "clean")
    said = "same_size drops 38 (their size is not that of most images, and resize: {to: [height, "
    assert said in run.output
    assert said in run.error
    assert "pixels where 2 images have" in run.rejects("clean")[0][1]
    assert {rule for rule, _ in run.rejects("clean")} == {"same_size"}


def test_images_of_all_sizes_and_modes_train_a_model_that_reads_any(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos()
    recipe = build_recipe(
        "image",
        ingest={"kind": "images", "path": "pics"},
        clean=CLEAN,
        split={"val": 0.2, "test": 0.2},
        train={"epochs": 1, "batch_size": 16},
    )
    run = run_stages(recipe, capsys, "split")
    report = run.report("clean/report.json")
    assert (report["rows"], report["rejects"]) == (40, 0)
    [resized] = [rule for rule in report["rules"] if rule["rule"] == "resize"]
    assert resized["changed"] == 40
    assert resized["examples"][0]["after"].startswith("PNG, 12x16 pixels, ")

    training.run(recipe, PATHS, here / "checkpoints")
    warning = "training images are grey, and are read as colour like others"
    assert warning in capsys.readouterr().out
    info = ModelInfo.read(PATHS.model.info)
    assert info.input == ImageInput(shape=(3, 16, 12), resize="pad")
    assert warning in str(info.warnings)
    predictor = modalities.load_predictor(PATHS.model.path, 1)
    odd: list[bytes | None] = [photo(number, is_light=True) for number in (100, 101, 102)]
    cleaned = RULES["resize"].bind({"to": [16, 12]}, "image").apply(tiny.image_table(odd)).table
    assert predictor(odd) == pytest.approx(predictor(cleaned["image"].to_pylist()))


@pytest.mark.parametrize(("how", "n_light"), [("pad", 1), ("crop", 2), ("stretch", 2)])
def test_each_way_of_resizing_keeps_what_it_says(how: ResizeMethod, n_light: int) -> None:
    """Seen on a light stripe, a fifth of the width, in an image that is too high by twice."""
    striped = np.full((40, 20), 9, np.uint8)
    striped[:, 8:12] = 255
    image = resize_image(Image.fromarray(striped), 10, 10, how)
    pixels = np.asarray(image)
    assert image.size == (10, 10)
    assert (pixels[5] > 128).sum() == n_light
    assert {*pixels[0, [0, -1]], *pixels[-1, [0, -1]]} == {9}


def test_resizing_turns_upright_and_rejects_what_cannot_be_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tiny.encode_image(Image.new("RGB", (20, 10), "red"), "JPEG", exif=exif)
    right = tiny.encode_image(Image.new("L", (4, 8)))
    rule = RULES["resize"].bind({"to": [8, 4], "how": "stretch"}, "image")
    outcome = rule.apply(tiny.image_table([turned, right, b"no image", None]))
    reasons = outcome.reasons or []
    assert [bool(reason) for reason in reasons] == [False, False, True, True]
    first, second, *_ = outcome.table["image"].to_pylist()
    with Image.open(io.BytesIO(first)) as image:
        assert (image.size, image.mode) == ((4, 8), "RGB")
    assert second == right


def test_sizes_that_nothing_mends_stop_training_with_the_rules_that_do(here: Path) -> None:
    from tasks.modalities.image import ImagePredictor, ImageTrainer
    from tasks.recipe.train import Train

    rows = [photo(number, is_light=True) for number in range(4)]
    with pytest.raises(StageError, match=r"have 4 sizes, such as .* the rule resize: \{to: \["):
        ImageTrainer(Train(), rows, tiny.TWO)
    trainer = ImageTrainer(Train(), [rows[1]] * 3, tiny.TWO)
    info = tiny.model_info("image", input=trainer.export(here))
    assert ImagePredictor(here, info, 1)([rows[1]]).shape == (1, 2)
    grey = tiny.encode_image(Image.new("L", (15, 15), 7))
    assert ImagePredictor(here, info, 1)([grey]).shape == (1, 2)
    with pytest.raises(StageError, match="an image has 16x16 pixels, but the model was trained on"):
        ImagePredictor(here, info, 1)([rows[2]])
