"""Files in which people write what they want: TOML, or JSON of the same tables."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .files import read_json, read_text
from .words import brief


def read_table(path: Path) -> dict[str, Any]:
    """What a TOML file holds, or a JSON file, which ends in .json.

    Raises:
        InputError: it cannot be read, or is not what its name says.
    """
    if path.suffix == ".json":
        found: dict[str, Any] = read_json(path)
        return found
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(read_text(path))
        except tomllib.TOMLDecodeError as e:
            raise InputError(f"{path} is not TOML: {e}.") from e
        except RecursionError as e:
            raise InputError(f"{path} is not what it should be: its TOML nests too deep.") from e
    raise InputError(
        f"cannot read {path}: Python reads TOML from 3.11 on, and this one is older. Write the "
        "same as JSON, in a file that ends in .json."
    )


class Table:
    """The values of one table, each of a type and in a range, or a sentence that says where.

    where: file and table, for sentences.
    """

    def __init__(self, values: object, where: str, known: Collection[str]) -> None:
        """Raise InputError unless it is a table with keys of these names alone."""
        if not isinstance(values, Mapping):
            raise InputError(f"{where} must be a table, and is {brief(values)}.")
        if unknown := [key for key in values if key not in known]:
            raise InputError(f"{where}: there is no '{unknown[0]}'. Known: {', '.join(known)}.")
        self.values, self.where = values, where

    def number(self, key: str, usual: float, least: float, most: float) -> float:
        """A number from least to most; usual: where it is not there."""
        value = self.values.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{self.where}: {key} must be a number, and is {brief(value)}.")
        if not least <= value <= most:
            raise InputError(
                f"{self.where}: {key} is {value:,}, and must be from {least:,} to {most:,}."
            )
        return value

    def whole(self, key: str, usual: int, least: int, most: int) -> int:
        """A whole number from least to most."""
        value = self.number(key, usual, least, most)
        if not isinstance(value, int):
            raise InputError(f"{self.where}: {key} must be a whole number, and is {value}.")
        return value

    def flag(self, key: str, usual: bool = False) -> bool:
        """True or false."""
        value = self.values.get(key, usual)
        if not isinstance(value, bool):
            raise InputError(f"{self.where}: {key} must be true or false, and is {brief(value)}.")
        return value

    def word(self, key: str, usual: str, among: Collection[str]) -> str:
        """One of a few words."""
        value = self.values.get(key, usual)
        if not isinstance(value, str) or value not in among:
            raise InputError(
                f"{self.where}: {key} must be one of {', '.join(among)}, and is {brief(value)}."
            )
        return value

    def must(self, holds: bool, sentence: str) -> None:
        """Raise InputError unless it holds."""
        if not holds:
            raise InputError(f"{self.where}: {sentence}.")

    def list(self, key: str) -> list[Any]:
        """A list, empty where there is none."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise InputError(f"{self.where}: {key} must be a list, and is {brief(value)}.")
        return value
