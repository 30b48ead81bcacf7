"""Writes deploy/grafana/dashboards/*.json from `dashboards.py`; `--check` fails when one is stale.

Belongs here: Grafana's JSON, through its foundation SDK. Does not belong here: what is shown (`dashboards.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, LegendDisplayMode, LegendPlacement, VizOrientation
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableRefresh,
    VariableSort,
)

from tools.dashboards import BOARDS, Board, Panel

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "grafana" / "dashboards"
# The uid in deploy/grafana/provisioning/datasources.
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
HEIGHTS = {"timeseries": 8, "stat": 4, "bargauge": 8}


def main() -> int:
    """Writes or checks the dashboards; returns the exit code."""
    pages = {FOLDER / f"{board.uid}.json": render(board) for board in BOARDS}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    orphans = sorted(set(FOLDER.glob("*.json")) - set(pages))
    if "--check" in sys.argv[1:]:
        for path in [*stale, *orphans]:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make dashboards`\n")
        return 1 if stale or orphans else 0
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
    for path in orphans:
        path.unlink()
    return 0


def render(board: Board) -> str:
    """A dashboard's JSON."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["mlops"])
        .timezone("browser")
        .refresh("1m")
        .time(board.span, "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    if board.variable is not None:
        name, query = board.variable
        made = made.with_variable(
            dashboard.QueryVariable(name)
            .datasource(SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
    for number, panel in enumerate(board.panels, start=1):
        made = made.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel | bargauge.Panel:
    made: timeseries.Panel | stat.Panel | bargauge.Panel
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    if panel.kind == "stat":
        made = stat.Panel().reduce_options(last).text_mode(BigValueTextMode.VALUE_AND_NAME)
    elif panel.kind == "bargauge":
        made = bargauge.Panel().reduce_options(last).orientation(VizOrientation.HORIZONTAL)
    else:
        below = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
        made = timeseries.Panel().legend(below.display_mode(LegendDisplayMode.LIST).calcs(["lastNotNull"]))
    made = (
        made.title(panel.title)
        .description(panel.meaning)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(HEIGHTS[panel.kind])
    )
    for number, (legend, expression) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").ref_id(chr(ord("A") + number))
        # A bar or a figure is the present value; a line is a range.
        made = made.with_target(query.range() if panel.kind == "timeseries" else query.instant())
    return made


if __name__ == "__main__":
    sys.exit(main())
