"""The value of a derived feature, and what is said when its expression can't be had.

Belongs here: calling what a declaration brought, which may be a user's and do anything. Does not belong here: the other
kinds of features (`transform.py`).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from types import SimpleNamespace

    from mlops_platform.contracts.features import Feature


def derived_value(feature: Feature, columns: SimpleNamespace) -> Any:
    """The Ibis value of a derived feature.

    Args:
        feature: Its declaration, whose `how` is a `Derived`.
        columns: The measures and the features before it, by name.

    Raises:
        InputError: It refers to a column that is not there, raises an error, or gives no Ibis value.
    """
    import ibis.expr.types as ir

    how: Any = feature.how
    try:
        value = how.expression(columns)
    except AttributeError as error:
        if error.obj is not columns:
            raise _failed(feature, error) from error
        raise _unknown(feature, str(error.name), list(vars(columns))) from error
    except Exception as error:
        raise _failed(feature, error) from error
    if not isinstance(value, ir.Value):
        expected = "an expression of columns, such as lambda t: t.total_transactions_7d / 7"
        raise InputError(f"feature {feature.name} gives {value!r}", expected=expected)
    return value


def _failed(feature: Feature, error: Exception) -> InputError:
    return InputError(f"feature {feature.name} can't be computed: {type(error).__name__}: {error}", hint="mend it.")


def _unknown(feature: Feature, name: str, known: list[str]) -> InputError:
    near = difflib.get_close_matches(name, known) or known
    return InputError(
        f"feature {feature.name} refers to {name}, which is no feature or measure before it",
        expected=f"one such as {', '.join(near[:5])}",
        hint="declare it earlier in the list.",
    )
