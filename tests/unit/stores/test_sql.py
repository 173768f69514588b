"""The steps of a schema."""

from __future__ import annotations

import re

import pytest

from kaiju_app.stores._sql import made_by, missing_steps, statements


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_statement_of_a_step_can_be_repeated_if_a_part_was_dropped(engine: str) -> None:
    """A step that changes a table needs another way to make a dropped part again."""
    schema = statements(f"{engine}/schema.sql")

    again = [each.strip() for step in missing_steps(schema, len(schema), ()) for each in step.split(";")]

    makes = r"CREATE (TABLE|INDEX) IF NOT EXISTS \w+|ALTER TABLE \w+ ADD COLUMN IF NOT EXISTS \w+"
    assert [] == [each for each in again if each and not re.match(makes, each)]
    assert {"kaiju_task", "kaiju_run", "kaiju_instance", "kaiju_task_claimed"} <= made_by(schema)


def test_only_what_is_missing_is_done() -> None:
    schema = {"1": "CREATE TABLE one (x)", "2": "CREATE INDEX two ON one (x)"}

    assert [] == missing_steps(schema, 2, {"one", "two"})
    assert ["CREATE INDEX two ON one (x)"] == missing_steps(schema, 1, {"one"})
    assert 2 == len(missing_steps(schema, 0, {"one", "two"})) == len(missing_steps(schema, 2, {"one"}))


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_an_upgrade_takes_the_last_step_only_unless_a_part_of_an_earlier_one_was_dropped(engine: str) -> None:
    schema = statements(f"{engine}/schema.sql")
    taken = len(schema) - 1
    made = made_by({number: schema[number] for number in list(schema)[:taken]})
    assert "kaiju_note" in made

    assert [schema["7"]] == missing_steps(schema, taken, made)
    for dropped in made:
        assert len(schema) == len(missing_steps(schema, taken, made - {dropped}))
