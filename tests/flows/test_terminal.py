"""Tables at the terminal."""

import pytest

from flows import terminal


def test_brackets_in_a_cell_are_text_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_table(
        "Moves", ["state", "because"], [["ran", "class [urgent] and [/] and [phone]"]]
    )
    assert "class [urgent] and [/] and [phone]" in capsys.readouterr().out
