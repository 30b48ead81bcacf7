"""Named sources as settings: where a CRM is, and what its own names for our tables and columns are.

Belongs here: the shape of `MLOPS_SOURCES` and of `[sources.NAME]` in the home's file. Does not belong here: looking at
the database (`data_pipeline/crm.py` turns a source into tables).
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TableSetting(BaseModel):
    """What a table and its columns are called in the CRM; a plain string is the table's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, min_length=1, description="The CRM's table, schema.table included; none: our name.")
    columns: dict[str, str] = Field(default_factory=dict, description="Our column to the CRM's.")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SourceSetting(BaseModel):
    """One source; a plain string is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(None, min_length=1, description="Database URL; the source crm may leave it to crm_url.")
    tables: dict[Literal["customers", "transactions"], TableSetting] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _url_alone(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


def decoded(value: Any) -> Any:
    """The sources of an environment variable, which holds JSON; anything else as it is.

    Raises:
        ValueError: The text is no JSON object.
    """
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f'must be JSON such as {{"shop": "postgresql://user@host/database"}}: {error}') from error
    if not isinstance(found, dict):
        raise ValueError('must be a JSON object such as {"shop": "postgresql://user@host/database"}')
    return found
