"""Writes the Grafana dashboards from this description: ``python deploy/grafana/generate.py``.

The JSON under ``dashboards/`` is committed; a test fails where it differs from what this says,
and another one runs every query here against a Prometheus that has scraped the real service.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphDrawStyle,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
MODEL = 'model=~"$model"'
HIDE = 'route="/v1/hide"'
COLUMNS = 24

Kind = Literal["lines", "stacked", "stat", "heatmap"]


@dataclass(frozen=True)
class Query:
    """One PromQL expression; ``legend`` is Grafana's template of the series' name."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. ``limit`` draws a line (and colours a number) from which it is bad."""

    title: str
    text: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "lines"
    width: int = 8
    limit: float | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels."""

    uid: str
    title: str
    text: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    by_model: bool = True


def quantile(q: float, metric: str, by: str, where: str = MODEL) -> str:
    """Quantile of a histogram by labels."""
    inner = (
        f"sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    )
    return f"histogram_quantile({q}, {inner})"


def buckets(metric: str, where: str = MODEL) -> str:
    """Counts by bucket, for a heatmap."""
    return f"sum by (le) (increase({metric}_bucket{{{where}}}[$__rate_interval]))"


def mean(metric: str, by: str = "model", where: str = MODEL) -> str:
    """Mean of a histogram's values by labels."""
    rates = [
        f"sum by ({by}) (rate({metric}_{part}{{{where}}}[$__rate_interval]))"
        for part in ("sum", "count")
    ]
    return f"{rates[0]} / {rates[1]}"


SERVICE = Board(
    uid="platehide-service",
    title="platehide: service",
    text="Is it up, fast and with room? The promise: p95 of 250 ms at 70 % of capacity.",
    by_model=False,
    rows=(
        (
            "At a glance",
            (
                Panel(
                    "Ready processes",
                    "Processes that answer /readyz with yes; 0 means no photo is taken.",
                    (Query("sum(platehide_ready)"),),
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Photos a second",
                    "Photos that a model worked on.",
                    (Query("sum(rate(platehide_photos_total[$__rate_interval]))"),),
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "p95",
                    "Admission to finished answer of /v1/hide, all versions.",
                    (Query(quantile(0.95, "platehide_photo_duration_seconds", "", HIDE)),),
                    unit="s",
                    kind="stat",
                    width=4,
                    limit=0.25,
                ),
                Panel(
                    "Failed, last hour",
                    "Server errors (503 included) as a share of the answers under /v1/; the "
                    "objective is 0.5 %.",
                    (Query("platehide:availability_bad:ratio_rate1h"),),
                    unit="percentunit",
                    kind="stat",
                    width=4,
                    limit=0.005,
                ),
                Panel(
                    "Slower than 250 ms, last hour",
                    "Share of photos; the objective is 5 %.",
                    (Query("platehide:latency_bad:ratio_rate1h"),),
                    unit="percentunit",
                    kind="stat",
                    width=4,
                    limit=0.05,
                ),
                Panel(
                    "Places taken",
                    "In flight as a share of the limit; above it requests are refused.",
                    (Query("platehide:saturation:ratio"),),
                    unit="percentunit",
                    kind="stat",
                    width=4,
                    limit=0.8,
                ),
            ),
        ),
        (
            "Answers",
            (
                Panel(
                    "Requests by status",
                    "Everything under /v1/.",
                    (
                        Query(
                            "sum by (status) (rate(platehide_http_requests_total"
                            '{route=~"/v1/.*"}[$__rate_interval]))',
                            "{{status}}",
                        ),
                    ),
                    unit="reqps",
                    kind="stacked",
                ),
                Panel(
                    "Problems by code",
                    "Problem documents, by their stable code.",
                    (
                        Query(
                            "sum by (code) (rate(platehide_errors_total[$__rate_interval]))",
                            "{{code}}",
                        ),
                    ),
                    unit="reqps",
                    kind="stacked",
                ),
                Panel(
                    "Refused before any work",
                    "busy, queue_deadline and memory mean that there is no room.",
                    (
                        Query(
                            "sum by (reason) (rate(platehide_rejections_total[$__rate_interval]))",
                            "{{reason}}",
                        ),
                        Query(
                            "sum by (reason) (rate(platehide_dropped_total[$__rate_interval]))",
                            "dropped: {{reason}}",
                        ),
                    ),
                    unit="reqps",
                ),
            ),
        ),
        (
            "Time",
            (
                Panel(
                    "Photo duration",
                    "Admission to finished answer of /v1/hide; upload and download not included.",
                    tuple(
                        Query(
                            quantile(q, "platehide_photo_duration_seconds", "", HIDE),
                            f"p{100 * q:g}",
                        )
                        for q in (0.5, 0.95, 0.99)
                    ),
                    unit="s",
                    limit=0.25,
                ),
                Panel(
                    "Photo durations",
                    "How many photos took how long.",
                    (Query(buckets("platehide_photo_duration_seconds", HIDE), "{{le}}"),),
                    unit="s",
                    kind="heatmap",
                ),
                Panel(
                    "Stages, p95",
                    "Work by stage; total is the whole pipeline.",
                    (
                        Query(
                            quantile(
                                0.95, "platehide_stage_duration_seconds", "stage", 'stage=~".+"'
                            ),
                            "{{stage}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Request duration by route, p95",
                    "From the headers to the last byte handed on: slow clients count here.",
                    (
                        Query(
                            quantile(
                                0.95,
                                "platehide_http_request_duration_seconds",
                                "route",
                                'route=~"/v1/.*"',
                            ),
                            "{{route}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Wait for a thread, p95",
                    "Rises before anything is refused.",
                    (
                        Query(
                            quantile(0.95, "platehide_queue_wait_seconds", "", 'job=~".+"'),
                            "wait",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Size of the photos, mean",
                    "Larger photos take longer: look here first when p95 rises.",
                    (
                        Query(
                            mean("platehide_photo_bytes", "route", 'route=~"/v1/.*"'), "{{route}}"
                        ),
                    ),
                    unit="bytes",
                ),
            ),
        ),
        (
            "Room",
            (
                Panel(
                    "In flight",
                    "Requests that hold a place, against the places there are.",
                    (
                        Query("sum(platehide_in_flight)", "in flight"),
                        Query("sum(platehide_in_flight_limit)", "limit"),
                        Query("sum(platehide_queue_depth)", "waiting"),
                        Query("sum(platehide_working)", "threads at work"),
                        Query("sum(platehide_worker_threads)", "threads"),
                    ),
                ),
                Panel(
                    "Memory",
                    "Resident, and uploads held in memory.",
                    (
                        Query(
                            "sum by (instance) (platehide_resident_memory_bytes)", "{{instance}}"
                        ),
                        Query("sum(platehide_buffered_bytes)", "uploads"),
                    ),
                    unit="bytes",
                ),
                Panel(
                    "Processes and jobs",
                    "Running processes; photos of jobs that wait or run; jobs by state.",
                    (
                        Query("sum(platehide_processes)", "processes"),
                        Query("max(platehide_job_items_pending)", "photos of jobs pending"),
                    ),
                ),
            ),
        ),
    ),
)

MODELS = Board(
    uid="platehide-models",
    title="platehide: models",
    text="What the versions answer. A plate that is missed leaves no error: watch plates a photo.",
    rows=(
        (
            "Outcome by version",
            (
                Panel(
                    "Loaded models",
                    "By role; two current ones are a rollout.",
                    (
                        Query(
                            f"sum by (model, role) (platehide_model_info{{{MODEL}}})",
                            "{{model}} {{role}}",
                        ),
                    ),
                    width=6,
                ),
                Panel(
                    "Photos by outcome",
                    "hidden, none, unsure, error.",
                    (
                        Query(
                            "sum by (model, outcome) "
                            f"(rate(platehide_photos_total{{{MODEL}}}[$__rate_interval]))",
                            "{{model}} {{outcome}}",
                        ),
                    ),
                    width=9,
                    kind="stacked",
                ),
                Panel(
                    "Unsure share",
                    "Photos that were refused because a plate could not be shown to be hidden.",
                    (Query(f"model:platehide_unsure:ratio_rate30m{{{MODEL}}}", "{{model}}"),),
                    unit="percentunit",
                    width=9,
                    limit=0.1,
                ),
            ),
        ),
        (
            "What is found",
            (
                Panel(
                    "Plates a photo",
                    "A fall means missed plates.",
                    (Query(mean("platehide_photo_plates"), "{{model}}"),),
                ),
                Panel(
                    "Photos without a plate",
                    "Share of the answered photos, last hour.",
                    (Query(f"model:platehide_none:ratio_rate1h{{{MODEL}}}", "{{model}}"),),
                    unit="percentunit",
                ),
                Panel(
                    "Covered share of a photo",
                    "Mean painted area ÷ the photo's area, last hour.",
                    (Query(f"model:platehide_covered_share:mean1h{{{MODEL}}}", "{{model}}"),),
                    unit="percentunit",
                ),
                Panel(
                    "Confidence, mean",
                    "Drift of the photos or of the model.",
                    (Query(mean("platehide_plate_confidence"), "{{model}}"),),
                ),
                Panel(
                    "Confidence",
                    "How many plates had which confidence.",
                    (Query(buckets("platehide_plate_confidence"), "{{le}}"),),
                    kind="heatmap",
                ),
                Panel(
                    "Plates",
                    "How many photos had how many plates.",
                    (Query(buckets("platehide_photo_plates"), "{{le}}"),),
                    kind="heatmap",
                ),
            ),
        ),
        (
            "Speed by version",
            (
                Panel(
                    "Photo duration, p95",
                    "The canary's p95 beside the stable one's.",
                    (
                        Query(
                            f"model:platehide_photo_duration_seconds:p95_5m{{{MODEL}}}",
                            "{{model}}",
                        ),
                    ),
                    unit="s",
                    width=12,
                    limit=0.25,
                ),
                Panel(
                    "Detection, p95",
                    "The network alone.",
                    (
                        Query(
                            "model_stage:platehide_stage_duration_seconds:p95_5m"
                            f'{{stage="detect",{MODEL}}}',
                            "{{model}}",
                        ),
                    ),
                    unit="s",
                    width=12,
                ),
            ),
        ),
        (
            "Two models at once",
            (
                Panel(
                    "Shadow comparisons",
                    "What differed between candidate and current model on the same photo.",
                    (
                        Query(
                            "sum by (candidate, result) (rate(platehide_shadow_comparisons_total"
                            f"{{{MODEL}}}[$__rate_interval]))",
                            "{{candidate}} {{result}}",
                        ),
                    ),
                    kind="stacked",
                    width=6,
                ),
                Panel(
                    "Shadow agreement",
                    "Share of compared photos with the same answer, last hour.",
                    (Query("candidate:platehide_shadow_agreement:ratio_rate1h", "{{candidate}}"),),
                    unit="percentunit",
                    width=6,
                ),
                Panel(
                    "Shadow: duration p95, IoU",
                    "Pipeline time of the candidate; overlap of the plates that both found.",
                    (
                        Query(
                            quantile(0.95, "platehide_shadow_duration_seconds", "candidate"),
                            "{{candidate}} p95 s",
                        ),
                        Query(mean("platehide_shadow_iou", "candidate"), "{{candidate}} IoU"),
                    ),
                    width=6,
                ),
                Panel(
                    "Exposures by arm",
                    "Requests of units that take part in a split; none while no split runs.",
                    (
                        Query(
                            "sum by (arm, model) "
                            f"(rate(platehide_exposures_total{{{MODEL}}}[$__rate_interval]))",
                            "{{arm}} {{model}}",
                        ),
                    ),
                    width=6,
                ),
            ),
        ),
    ),
)

BOARDS = (SERVICE, MODELS)


def _thresholds(limit: float | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if limit is not None:
        steps.append(Threshold(value=limit, color="red"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _query(query: Query, index: int, *, instant: bool, as_heatmap: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + index))
    target = target.datasource(SOURCE).legend_format(query.legend or "__auto")
    if as_heatmap:
        target = target.format(PromQueryFormat.HEATMAP)
    return target.instant() if instant else target.range()


def build_panel(panel: Panel, number: int) -> stat.Panel | heatmap.Panel | timeseries.Panel:
    """One Grafana panel."""
    height = 4 if panel.kind == "stat" else 8
    made: stat.Panel | heatmap.Panel | timeseries.Panel
    if panel.kind == "stat":
        made = stat.Panel().color_mode(BigValueColorMode.VALUE).unit(panel.unit)
        made = made.thresholds(_thresholds(panel.limit))
    elif panel.kind == "heatmap":
        made = heatmap.Panel().unit(panel.unit).calculate(False)
    else:
        made = timeseries.Panel().unit(panel.unit).min(0).draw_style(GraphDrawStyle.LINE)
        made = made.fill_opacity(30 if panel.kind == "stacked" else 5).span_nulls(False)
        if panel.kind == "stacked":
            made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
        if panel.limit is not None:
            made = made.thresholds(_thresholds(panel.limit)).thresholds_style(
                common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE)
            )
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
        made = made.legend(legend.placement(LegendPlacement.BOTTOM).show_legend(True))
        made = made.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    made = made.id(number).title(panel.title).description(panel.text).datasource(SOURCE)
    made = made.span(panel.width).height(height)
    for index, query in enumerate(panel.queries):
        made = made.with_target(
            _query(
                query,
                index,
                instant=panel.kind == "stat",
                as_heatmap=panel.kind == "heatmap",
            )
        )
    return made


def build(board: Board) -> str:
    """The dashboard's JSON, as it is committed."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.text)
        .tags(["platehide"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    if board.by_model:
        made = made.with_variable(
            dashboard.QueryVariable("model")
            .label("model")
            .datasource(SOURCE)
            .query("label_values(platehide_model_info, model)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    numbers = itertools.count(1)
    for title, panels in board.rows:
        made = made.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            made = made.with_panel(build_panel(panel, next(numbers)))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(made.build())) + "\n"


def main() -> int:
    """Write all dashboards; returns the exit code."""
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.uid}.json"
        path.write_text(build(board), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
