r"""Judge a model against the champion, before it is promoted.

    python -m tasks.gating.promotion_gate support-desk --champion FOLDER --version VERSION \
        --comparison-number 2 --output FILE

Writes the verdict to the file that `--output` names. All comparisons with one champion share one
error rate, so each has a number.
"""

import argparse
from pathlib import Path
from typing import NoReturn

from tasks.core import stage
from tasks.gating import preconditions
from tasks.gating.champion import Champion
from tasks.recipe import resolved
from tasks.storage.layout import ModelFolder, StagePaths


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tasks.gating.promotion_gate")
    parser.add_argument("recipe", help="a registered recipe whose model was evaluated")
    parser.add_argument("--champion", type=Path, required=True, help="the champion's model folder")
    parser.add_argument("--version", required=True, help="the champion's version")
    parser.add_argument(
        "--comparison-number", type=int, required=True, help="which comparison with it this is"
    )
    parser.add_argument("--output", type=Path, required=True, help="the verdict's file")
    return parser.parse_args(argv)


def command(recipe: str, champion: Champion, output: Path) -> list[str]:
    """Return the arguments of `python` that judge a recipe's model against a champion."""
    return [
        "-m",
        "tasks.gating.promotion_gate",
        recipe,
        *("--champion", str(champion.model.path)),
        *("--version", champion.version),
        *("--comparison-number", str(champion.comparison_number)),
        *("--output", str(output)),
    ]


def judge_against_champion(recipe_name: str, champion: Champion, output: Path) -> None:
    """Write the verdict on a recipe's model against a champion."""
    from tasks.gating import verdict  # loads models' libraries, which `command` does not need

    paths = StagePaths.of_recipe(recipe_name)
    preconditions.require_passed_checks(paths)
    recipe = resolved.read_resolved_recipe(recipe_name)
    verdict.judge_model(recipe, paths, champion).write(output)


def main() -> NoReturn:
    """Run as a process that ends with a stage's exit status."""
    arguments = parse_arguments()
    champion = Champion(
        ModelFolder(arguments.champion), arguments.version, arguments.comparison_number
    )

    def gate(recipe_name: str) -> None:
        judge_against_champion(recipe_name, champion, arguments.output)

    stage.main(gate, [arguments.recipe])


if __name__ == "__main__":
    main()
