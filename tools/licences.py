"""Writes docs/licences.md: the licences of the locks' distributions, with a reason for each that asks something.

`--check` fails when a lock names what the page does not, when an installed distribution says something else than the
page, and when a licence that asks for more than its notice has no reason here. Licences are what the distributions
themselves say, read by pip-licenses. Does not belong here: versions; they come from the locks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
# Lock → the environment that is made from it.
LOCKS = {
    "requirements.lock": ".venv",
    "requirements.engines.lock": ".venv-engines",
    "deploy/airflow/requirements.lock": ".venv-airflow",
}
NAMES = dict(zip(LOCKS, ("main", "engines", "Airflow"), strict=True))
UNKNOWN, NOT_INSTALLED = "UNKNOWN", "not installed where this was made"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
# What a licence may ask for beside keeping its notice.
_ASKS = re.compile(r"\b[AL]?GPL|GNU|MPL|Mozilla|EPL|CDDL|EUPL|Proprietary|UNKNOWN", re.IGNORECASE)
# Why it is used all the same. A new one fails the check until somebody has thought about it.
_FILES = "MPL-2.0 asks for the source of its own changed files alone; it is used unchanged"
REASONS = {
    "certifi": _FILES,
    "hypothesis": f"{_FILES}, and in tests alone",
    "nvidia-nccl-cu12": "comes with xgboost on Linux and is not loaded without a GPU: read NVIDIA's terms before you "
    "pass on an image that holds it, or leave it out with `pip uninstall nvidia-nccl-cu12`",
    "orjson": _FILES,
    "pathspec": _FILES,
    "psycopg2-binary": "LGPL-3.0 with an exception for linking: imported as a library, unchanged; whoever passes on an "
    "image passes on its source's address with it",
    "text-unidecode": "Artistic License, chosen of the two offered",
    "tqdm": _FILES,
}

# Whose metadata names none: what the licence file inside them is.
IN_THEIR_FILE = {"huey": "MIT", "skops": "MIT"}


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """One distribution.

    Args:
        name: In lower case.
        version: The lock's.
        licence: What it says of itself.
        locks: The locks that name it.
    """

    name: str
    version: str
    licence: str
    locks: str

    @property
    def asks(self) -> bool:
        """Whether it asks for more than keeping its notice."""
        return _ASKS.search(self.licence) is not None and not _has_plain_choice(self.licence)


def pinned() -> dict[tuple[str, str], list[str]]:
    """Name and version of everything the locks name, with the locks that do."""
    found: dict[tuple[str, str], list[str]] = {}
    for lock in LOCKS:
        for name, version in _PIN.findall((ROOT / lock).read_text(encoding="utf-8")):
            found.setdefault((_normal(name), version), []).append(NAMES[lock])
    return found


def installed() -> dict[tuple[str, str], str]:
    """The licence of every installed distribution of the environments that are there."""
    found: dict[tuple[str, str], str] = {}
    for environment in reversed(LOCKS.values()):
        python = ROOT / environment / "bin" / "python"
        if python.exists():
            program = str(Path(sys.executable).parent / "pip-licenses")
            command = [program, "--python", str(python), "--format=json", "--from=mixed", "--with-system"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for each in json.loads(done.stdout):
                name, licence = _normal(each["Name"]), _one_line(each["License"])
                found[name, each["Version"]] = IN_THEIR_FILE.get(name, licence) if licence == UNKNOWN else licence
    return found


def rows() -> list[Row]:
    """Every distribution of the locks."""
    known = installed()
    before = _of_page(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    return sorted(
        # Another Python or another system has others: what was known of them stays.
        Row(name, version, known.get((name, version), before.get((name, version), NOT_INSTALLED)), ", ".join(locks))
        for (name, version), locks in pinned().items()
    )


def page(found: list[Row]) -> str:
    """The page."""
    asking = list({row.name: row for row in found if row.asks}.values())
    lines = [
        "<!-- Made by `make licences` from the locks and the installed distributions; reasons: tools/licences.py. -->",
        "# Licences",
        "",
        f"{len(found)} distributions of the locks, as each names its licence itself. The platform is Apache-2.0.",
        "",
        "## What asks for more than keeping its notice",
        "",
        "| distribution | licence | why it may be used |",
        "|---|---|---|",
        *(f"| {row.name} | {row.licence} | {REASONS.get(row.name, '')} |" for row in asking),
        "",
        "## All",
        "",
        "`main` is requirements.lock, with what tests and tools need; an image holds less.",
        "",
        "| distribution | version | licence | lock |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.version} | {row.licence} | {row.locks} |" for row in found),
    ]
    return "\n".join(lines) + "\n"


def problems(text: str) -> list[str]:
    """What is wrong with the page."""
    there, wanted, known = _of_page(text), pinned(), installed()
    missing = [f"{name} {version} is in a lock, and not on the page" for name, version in wanted.keys() - there.keys()]
    gone = [f"{name} {version} is on the page, and in no lock" for name, version in there.keys() - wanted.keys()]
    other = [
        f"{name} {version} says {known[name, version]!r}, the page {licence!r}"
        for (name, version), licence in there.items()
        if known.get((name, version), licence) != licence
    ]
    found = [Row(name, version, licence, "") for (name, version), licence in there.items()]
    reasons = [f"{row.name}: {row.licence} needs a reason" for row in found if row.asks and row.name not in REASONS]
    reasons += [
        f"{name} has a reason, and no such licence" for name in REASONS.keys() - {r.name for r in found if r.asks}
    ]
    return sorted([*missing, *gone, *other, *reasons])


def _of_page(text: str) -> dict[tuple[str, str], str]:
    table = text.partition("## All")[2]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    return {(name, version): licence for name, version, licence, _ in cells[1:]}


def _has_plain_choice(licence: str) -> bool:
    """Of licences joined by OR one may be chosen."""
    return any(not _ASKS.search(part) for part in re.split(r"\bOR\b", licence)) and " AND " not in licence


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _one_line(licence: str) -> str:
    lines = [line.strip() for line in licence.splitlines() if line.strip()]
    return lines[0].replace("|", "/") if lines else UNKNOWN


def main(arguments: list[str]) -> int:
    """Writes or checks the page."""
    if "--check" in arguments:
        found = problems(PAGE.read_text(encoding="utf-8") if PAGE.exists() else "")
        print(*found, sep="\n", end="\n" if found else "")
        if found:
            print(
                "docs/licences.md is stale. Next: make licences, and a reason in tools/licences.py where one is asked"
            )
        return int(bool(found))
    PAGE.write_text(page(rows()), encoding="utf-8")
    left = problems(PAGE.read_text(encoding="utf-8"))
    print(*left, sep="\n", end="\n" if left else "")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
