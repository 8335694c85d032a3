"""DVC's lock file, cut into stages and put together again."""

import pytest

from flows.dvc_recipe import LockText
from tests.conftest import ROOT

HEAD = "schema: '2.0'\nstages:\n"
ONE = "  clean@one:\n    cmd: run one\n    outs:\n    - path: a\n"
TWO = "  clean@two:\n    cmd: run two\n"
SHARED = "  fetch:\n    cmd: fetch\n"


def test_a_lock_is_cut_without_loss_and_one_recipe_is_selected() -> None:
    lock = LockText.split(HEAD + ONE + SHARED + TWO)
    assert lock
    assert lock.select("one") == HEAD + ONE + SHARED
    assert lock.select("two") == HEAD + SHARED + TWO
    changed = ONE.replace("run", "walk")
    assert lock.replace("clean@one", changed) == HEAD + changed + SHARED + TWO
    new = "  split@one:\n    cmd: new\n"
    assert lock.replace("split@one", new) == HEAD + ONE + SHARED + TWO + new


def test_the_lock_of_this_repository_has_the_form_that_is_cut() -> None:
    text = (ROOT / "dvc.lock").read_text()
    lock = LockText.split(text)
    assert lock
    assert lock.join(list(lock.stages.values())) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        f"stages:\n{ONE}schema: '2.0'\n",
        f"{HEAD}<<<<<<< HEAD\n{ONE}=======\n{TWO}>>>>>>> other\n",
        f"{HEAD}{ONE}<<<<<<< HEAD\n{TWO}",
        f"{HEAD}{ONE}{ONE}",
        f"{HEAD}{ONE}datasets:\n- name: x\n",
        f"{HEAD}  'clean@one':\n    cmd: x\n",
        f"{HEAD}  # a remark\n{ONE}",
        (HEAD + ONE).rstrip("\n"),
    ],
)
def test_what_dvc_does_not_write_is_left_to_dvc(text: str) -> None:
    assert LockText.split(text) is None
