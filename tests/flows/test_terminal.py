"""Tables at the terminal."""

import pytest

from flows import terminal


def test_brackets_in_a_cell_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    cell = "class [urgent] and [/] and [phone]"
    terminal.print_table("Promotions", ["state", "reason"], [["ran", cell]])
    assert cell in capsys.readouterr().out


def test_of_many_reasons_the_first_two_are_shown() -> None:
    assert terminal.format_reasons(["a", "b"]) == "a; b"
    assert terminal.format_reasons(["a", "b", "c", "d"]) == "a; b; and 2 more"
