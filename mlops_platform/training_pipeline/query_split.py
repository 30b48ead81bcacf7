"""Splitting labelled rows of any origin: by time as the line does, or stratified.

Does not belong here: labels (`query_rows.py`), the line's own split (`dataset.py`), which shares who is held back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.storage.duck import quoted, session
from mlops_platform.training_pipeline.dataset import held_back_sql, require_both_classes, row_text_sql, rows_digest
from mlops_platform.training_pipeline.models import RANDOM_STATE
from mlops_platform.training_pipeline.query_rows import CUSTOMER, DATE, LabelledRows

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from mlops_platform.settings import Settings

TEMPORAL, STRATIFIED = "temporal", "stratified"
TEST_SHARE = 0.2


def split_labelled(settings: Settings, labelled_rows: LabelledRows, *, split: str = TEMPORAL) -> LabelledRows:
    """Adds `split`: train, validation or test.

    Args:
        settings: Horizon.
        labelled_rows: What `labelled` gave.
        split: `temporal`: the test is the last feature_date E, and no label window of the other rows reaches past it;
            `stratified`: the test is a fifth of the rows, whatever their date, which flatters a churn model.

    Returns:
        The rows of a split; of the others the number. Validation rows are the customers held back at every training.

    Raises:
        InputError: Unknown split, or no feature_dates for a temporal one.
        NotEnoughDataError: A split holds one class only.
    """
    if split not in {TEMPORAL, STRATIFIED}:
        raise InputError(f"{split!r} is no split", expected=f"{TEMPORAL} or {STRATIFIED}")
    rows = labelled_rows.rows
    with session(settings) as duck:
        duck.register("labelled_rows", rows)
        if split == TEMPORAL:
            test, late = _temporal_sql(duck, rows.column_names, settings.horizon_days)
        else:
            duck.register("tests", _stratified_test(rows))
            test, late = "_place IN (SELECT place FROM tests)", "false"
        key = quoted(CUSTOMER) if CUSTOMER in rows.column_names else row_text_sql(rows.column_names)
        # Row numbers and not the rows themselves, so that the order stays.
        found = duck.sql(
            f"""SELECT * EXCLUDE (_place), CASE WHEN {test} THEN 'test' WHEN {late} THEN NULL
                    WHEN {held_back_sql(key)} THEN 'validation' ELSE 'train' END AS split
                FROM (SELECT *, row_number() OVER () - 1 AS _place FROM labelled_rows) ORDER BY _place"""
        ).to_arrow_table()
    kept = found.filter(found.column("split").is_valid())
    require_both_classes(kept, f"split {split}")
    dropped = dict(labelled_rows.dropped)
    if split == TEMPORAL:
        dropped["label_window_past_evaluation"] = found.num_rows - kept.num_rows
    return LabelledRows(kept, dropped, labelled_rows.label_snapshot_id)


def labelled_digest(settings: Settings, rows: pa.Table) -> str:
    """Digest of labelled and split rows in any order, and of their columns' names."""
    names = sorted(rows.column_names)
    with session(settings) as duck:
        duck.register("labelled_rows", rows)
        return f"{','.join(names)}:{rows_digest(duck, 'labelled_rows', names)}"


def _temporal_sql(duck: duckdb.DuckDBPyConnection, names: list[str], horizon: int) -> tuple[str, str]:
    """Conditions on a row: it is of the test; it is not, and its label window reaches past E."""
    hint = 'select more feature_dates, or use split="stratified".'
    if DATE not in names:
        raise InputError(
            f"a temporal split needs {DATE}", expected=f"a column {DATE}", hint='add it, or use split="stratified".'
        )
    days = [row[0] for row in duck.execute(f"SELECT DISTINCT {DATE} FROM labelled_rows ORDER BY {DATE}").fetchall()]
    if None in days:
        raise InputError(f"some rows have no day as {DATE}", expected="a day in each row")
    if not days or days[0] > days[-1] - timedelta(days=horizon):
        what = f"from {days[0]} to {days[-1]}" if days else "none"
        raise InputError(
            f"there are too few feature_dates with a label for a temporal split: {what}",
            expected=f"one to test on, and one {horizon} days or more before it to train on",
            hint=hint,
        )
    evaluation = days[-1]
    return f"{DATE} = DATE '{evaluation}'", f"{DATE} + {int(horizon)} > DATE '{evaluation}'"


def _stratified_test(rows: pa.Table) -> pa.Table:
    """Places of a fifth of the rows, as many of each class as in all."""
    import numpy as np
    import pyarrow as pa
    from sklearn.model_selection import train_test_split

    labels = rows.column(TARGET).to_numpy()
    counts = np.bincount(labels, minlength=2)
    if counts.min() < 2 or rows.num_rows * TEST_SHARE < 2:
        raise NotEnoughDataError(
            f"the rows hold {counts[1]} customers that churned and {counts[0]} that stayed",
            expected="enough of both to split",
            hint="select more rows.",
        )
    _, test = train_test_split(
        np.arange(rows.num_rows), test_size=TEST_SHARE, random_state=RANDOM_STATE, stratify=labels
    )
    return pa.table({"place": np.sort(test)})
