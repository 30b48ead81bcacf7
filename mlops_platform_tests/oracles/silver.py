"""Silver's transactions, slowly and obviously: repeats removed, then what is unusable quarantined.

Belongs here: the rules between the CRM's raw text and a silver transaction, and how text is read as time and money.
Does not belong here: features, and what a purchase is (an amount ≤ 0 stays in silver).

How text is read, where the design leaves it open:

- An id that is None, empty or only blanks is missing; any other id is kept to the letter.
- A time is `YYYY-MM-DD`, optionally with `HH:MM[:SS[.fraction]]` behind a blank or a `T`, optionally with `Z` or an
  offset; digits beyond microseconds are cut off. `infinity` and zone names are no times.
- A local time that the clock change repeats is the later of its two instants; one that it skips is read with the offset
  before the change (PostgreSQL's and DuckDB's rule, which is the later of two readings as well).
- An `updated_at` that is missing or no time is older than any other.
- A number is a plain or exponential decimal in ASCII digits; `NaN`, `inf`, `1,000` and `1_000` are none. A number that
  DECIMAL(18,2) can't hold counts as none.
- Blanks around a time or a number are ignored.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

from mlops_platform_tests.oracles.features import Purchase

NO_TRANSACTION_ID = "transaction_id is missing"
NO_CUSTOMER_ID = "customer_id is missing"
NO_TIME = "transaction_ts is missing or not a time"
NO_AMOUNT = "amount is missing or not a number"

CrmRow = Mapping[str, str | None]
"""One row of the CRM's transactions as text, by column."""

_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[ T](?P<clock>[0-9]{2}:[0-9]{2})(?::(?P<seconds>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_CENT = Decimal("0.01")
_MONEY_LIMIT = Decimal(10) ** 16


@dataclass(frozen=True)
class SilverTransaction:
    """One row of silver.

    Args:
        transaction_id: Unique in silver.
        customer_id: Whose transaction it is.
        transaction_ts: The instant, in UTC.
        local_ts: The same instant as naive time in the business time zone.
        amount: Money, two decimals, half-even.
        category: As in the CRM.
        payment_method: As in the CRM.
        sequence: Ingestion number of the raw row it came from.
    """

    transaction_id: str
    customer_id: str
    transaction_ts: datetime
    local_ts: datetime
    amount: Decimal
    category: str | None
    payment_method: str | None
    sequence: int

    def as_purchase(self) -> Purchase:
        """The row as `oracles.features` and `oracles.labels` take it."""
        return Purchase(self.customer_id, self.local_ts, self.amount, self.category, self.payment_method)


@dataclass(frozen=True)
class Quarantined:
    """One rejected raw row: its ingestion number, its values, and every reason that holds, in the order above."""

    sequence: int
    row: CrmRow
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Silver:
    """What becomes of the raw rows: `kept` by transaction_id, `quarantined` by ingestion number, repeats in neither."""

    kept: dict[str, SilverTransaction]
    quarantined: dict[int, Quarantined]


def silver(raw: Iterable[tuple[int, CrmRow]], timezone_name: str = "UTC") -> Silver:
    """Turn raw CRM rows into silver.

    Args:
        raw: (ingestion number, row) pairs in any order; the numbers are distinct, a greater one was ingested later.
        timezone_name: The business time zone, in which naive times are read.
    """
    zone = ZoneInfo(timezone_name)
    kept: dict[str, SilverTransaction] = {}
    quarantined: dict[int, Quarantined] = {}
    for sequence, row in _without_repeats(raw, zone):
        reasons = _reasons(row, zone)
        if reasons:
            quarantined[sequence] = Quarantined(sequence, row, reasons)
        else:
            transaction = _read(sequence, row, zone)
            kept[transaction.transaction_id] = transaction
    return Silver(kept, quarantined)


def parse_time(text: str | None, zone: ZoneInfo) -> datetime | None:
    """Read `text` as an instant in UTC; None when it is missing or not a time."""
    match = _TIME.fullmatch(text.strip()) if text is not None else None
    if match is None:
        return None
    fraction = (match["fraction"] or "").ljust(6, "0")[:6]
    try:
        local = datetime.fromisoformat(
            f"{match['day']} {match['clock'] or '00:00'}:{match['seconds'] or '00'}.{fraction}"
        )
        if match["zone"] is not None:
            return local.replace(tzinfo=_offset(match["zone"])).astimezone(UTC)
        return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except (ValueError, OverflowError):
        # A day, hour or offset that does not exist, or an instant outside the years 1 to 9999.
        return None


def parse_amount(text: str | None) -> Decimal | None:
    """Read `text` as money with two decimals, half-even; None when it is missing, not a number or too large."""
    if text is None or _NUMBER.fullmatch(text.strip()) is None:
        return None
    number = Decimal(text.strip())
    if number.copy_abs() >= _MONEY_LIMIT:
        return None
    # Adding zero turns −0.00, which no DECIMAL column knows, into 0.00.
    amount = number.quantize(_CENT, rounding=ROUND_HALF_EVEN) + Decimal("0.00")
    return amount if abs(amount) < _MONEY_LIMIT else None


def _without_repeats(raw: Iterable[tuple[int, CrmRow]], zone: ZoneInfo) -> list[tuple[int, CrmRow]]:
    """Of each transaction_id the row with the latest updated_at, of those the latest ingested; rows without id all."""
    survivors: list[tuple[int, CrmRow]] = []
    versions: dict[str, list[tuple[int, CrmRow]]] = defaultdict(list)
    for sequence, row in raw:
        transaction_id = row.get("transaction_id")
        if transaction_id is None or _is_blank(transaction_id):
            survivors.append((sequence, row))
        else:
            versions[transaction_id].append((sequence, row))
    never = datetime.min.replace(tzinfo=UTC)
    for rows in versions.values():
        survivors.append(max(rows, key=lambda it: (parse_time(it[1].get("updated_at"), zone) or never, it[0])))
    return survivors


def _reasons(row: CrmRow, zone: ZoneInfo) -> tuple[str, ...]:
    reasons = []
    if _is_blank(row.get("transaction_id")):
        reasons.append(NO_TRANSACTION_ID)
    if _is_blank(row.get("customer_id")):
        reasons.append(NO_CUSTOMER_ID)
    if parse_time(row.get("transaction_ts"), zone) is None:
        reasons.append(NO_TIME)
    if parse_amount(row.get("amount")) is None:
        reasons.append(NO_AMOUNT)
    return tuple(reasons)


def _read(sequence: int, row: CrmRow, zone: ZoneInfo) -> SilverTransaction:
    """A row without reasons against it, as silver."""
    transaction_id, customer_id = row["transaction_id"], row["customer_id"]
    instant, amount = parse_time(row["transaction_ts"], zone), parse_amount(row["amount"])
    assert transaction_id is not None
    assert customer_id is not None
    assert instant is not None
    assert amount is not None
    return SilverTransaction(
        transaction_id=transaction_id,
        customer_id=customer_id,
        transaction_ts=instant,
        local_ts=instant.astimezone(zone).replace(tzinfo=None, fold=0),
        amount=amount,
        category=row.get("category"),
        payment_method=row.get("payment_method"),
        sequence=sequence,
    )


def _is_blank(text: str | None) -> bool:
    return text is None or not text.strip()


def _offset(text: str) -> timezone:
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 15 or minutes > 59:
        raise ValueError(f"no such offset: {text}")
    return timezone((-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
