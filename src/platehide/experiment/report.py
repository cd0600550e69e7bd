"""The verdict as one self-contained HTML page: no script, no file beside it."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from platehide.experiment.config import ExperimentConfig, Metric
from platehide.experiment.data import Prepared
from platehide.experiment.measure import MetricResult, critical, unit_sums
from platehide.experiment.stats import Moments, ratio_effect
from platehide.experiment.verdict import Analysis

_CONTROL, _TREATMENT, _GOOD, _BAD, _OPEN = "#4c6a92", "#c8641b", "#2b7a3d", "#b3261e", "#6b6b6b"
_COLOURS = {
    "better": _GOOD,
    "within margin": _GOOD,
    "worse": _BAD,
    "harmed": _BAD,
    "not shown": _OPEN,
    None: _CONTROL,
}

_STYLE = """
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
.verdict { padding: .8rem 1.2rem; border-left: .5rem solid; border-radius: .3rem; }
.ship { border-color: #2b7a3d; background: #eaf5ec; }
.hold { border-color: #b3261e; background: #fbecea; }
.no-verdict { border-color: #8a6d00; background: #fdf6dd; }
.verdict h2 { margin: 0; font-size: 1.6rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; font-size: .92rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0 2rem; } svg { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
.failed { color: #b3261e; font-weight: 600; } .passed { color: #2b7a3d; font-weight: 600; }
code { overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class TimelinePoint:
    """The primary metric on everything up to ``time``."""

    time: pd.Timestamp
    units: int
    difference: float
    low: float
    high: float


def timeline(data: Prepared, config: ExperimentConfig, points: int = 20) -> list[TimelinePoint]:
    """How the primary ratio's interval came in, at evenly spaced moments.

    Empty for a quantile, and where the files carry no times.
    """
    metric, times = config.primary, data.rows["time"]
    if metric.quantile is not None or times.isna().all() or data.units["first"].isna().all():
        return []
    start, end = data.units["first"].min(), times.max()
    out = []
    for moment in pd.date_range(start, end, periods=points + 1)[1:]:
        part = _until(data, moment)
        counts = part.units["variant"].value_counts()
        arms = (config.control, config.treatment)
        if min(int(counts.get(arm, 0)) for arm in arms) < config.quality.min_units:
            continue
        units = int(sum(counts.get(arm, 0) for arm in arms))
        sums = [unit_sums(part, metric, arm)[0] for arm in arms]
        if min(s["denominator"].sum() for s in sums) <= 0:
            continue
        effect = ratio_effect(
            *(Moments.of(s.to_numpy(float)) for s in sums), covariate=metric.covariate is not None
        )
        fraction = units / config.units if config.units else 1.0
        width = float(critical(config, fraction, effect.df)) * float(effect.se)
        difference = float(effect.difference)
        if math.isfinite(width):
            out.append(
                TimelinePoint(moment, units, difference, difference - width, difference + width)
            )
    return out


def _until(data: Prepared, moment: pd.Timestamp) -> Prepared:
    return Prepared(
        units=data.units[data.units["first"] <= moment],
        rows=data.rows[data.rows["time"] <= moment],
        before=data.before,
        counts={},
        mixed_units=0,
        wrong_units=0,
        models={},
        data_end=None,
    )


def _svg(draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    with mpl.rc_context({"svg.hashsalt": "platehide", "svg.fonttype": "path", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _figure(draw: Callable[[Axes], None], caption: str, size: tuple[float, float]) -> str:
    label = html.escape(caption, quote=True)
    svg = _svg(draw, size).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _effects_plot(metrics: list[MetricResult]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for row, m in enumerate(reversed(metrics)):
            colour = _COLOURS[m.finding]
            values = [100 * v for v in (m.relative_low, m.relative, m.relative_high)]
            axes.plot([values[0], values[2]], [row, row], color=colour, lw=3)
            axes.plot(values[1], row, "o", color=colour, ms=7)
            if m.margin is not None:
                edge = 100 * (m.margin if m.better == "lower" else -m.margin)
                axes.plot([edge, edge], [row - 0.3, row + 0.3], color=_BAD, lw=1.5, ls="--")
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(metrics)), [f"{m.name}\n{m.role}" for m in reversed(metrics)])
        axes.set_xlabel("relative change, % of control (dashed: margin)")
        axes.margins(y=0.25)

    return draw


def _timeline_plot(points: list[TimelinePoint]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        times = [p.time.floor("s").to_pydatetime() for p in points]
        axes.fill_between(
            times, [p.low for p in points], [p.high for p in points], color=_TREATMENT, alpha=0.2
        )
        axes.plot(times, [p.difference for p in points], color=_TREATMENT, marker="o", ms=3)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_ylabel("treatment − control")
        axes.tick_params(axis="x", rotation=30)

    return draw


def _arrivals_plot(data: Prepared, config: ExperimentConfig) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for variant, colour in ((config.control, _CONTROL), (config.treatment, _TREATMENT)):
            first = data.units.loc[data.units["variant"] == variant, "first"].sort_values()
            keep = np.unique(np.linspace(0, len(first) - 1, min(400, len(first))).astype(int))
            axes.plot(
                first.iloc[keep].dt.tz_localize(None).to_numpy(),
                keep + 1,
                color=colour,
                label=variant,
            )
        axes.set_ylabel("sellers exposed")
        axes.legend(frameon=False)
        axes.tick_params(axis="x", rotation=30)

    return draw


def _distribution_plot(
    data: Prepared, config: ExperimentConfig, metric: Metric, q: float
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        levels = np.linspace(0.0, 0.999, 400)
        for variant, colour in ((config.control, _CONTROL), (config.treatment, _TREATMENT)):
            mine = data.rows["variant"] == variant
            values = data.rows.loc[mine, metric.numerator].dropna().to_numpy(float)
            axes.plot(np.quantile(values, levels), levels, color=colour, label=variant)
        axes.axhline(q, color=_OPEN, lw=0.8, ls="--")
        axes.set_xlabel(metric.numerator)
        axes.set_ylabel("share of rows at or below")
        axes.legend(frameon=False)

    return draw


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], numeric_from: int = 99) -> str:
    cells = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in head)
    body = []
    for row in rows:
        body.append(
            "<tr>"
            + "".join(
                f'<td class="n">{cell}</td>' if i >= numeric_from else f"<td>{cell}</td>"
                for i, cell in enumerate(row)
            )
            + "</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _number(value: float, pattern: str = ".4g") -> str:
    return format(value, pattern) if math.isfinite(value) else "–"


def _metric_row(m: MetricResult) -> list[str]:
    if m.problem is not None:
        return [html.escape(m.name), m.role, html.escape(m.problem), *["–"] * 6]
    interval = f"[{_number(m.low, '+.4g')}, {_number(m.high, '+.4g')}]"
    relative = (
        f"{m.relative:+.2%}<br>[{m.relative_low:+.2%}, {m.relative_high:+.2%}]"
        if math.isfinite(m.relative)
        else "–"
    )
    p = _number(m.p_value, ".3g")
    if m.p_adjusted is not None:
        p += f" (Holm {_number(m.p_adjusted, '.3g')})"
    saved = f"{m.variance_reduction:.0%}" if m.variance_reduction else "–"
    return [
        html.escape(m.name),
        m.role,
        m.finding or "reported only",
        _number(m.control),
        _number(m.treatment),
        f"{_number(m.difference, '+.4g')}<br>{interval}",
        relative,
        p,
        saved,
    ]


def render(analysis: Analysis, data: Prepared, config: ExperimentConfig) -> str:
    """The page; every plot is drawn only where there is something to draw."""
    esc = html.escape
    kind = analysis.verdict.replace(" ", "-")
    reasons = "".join(f"<li>{esc(r)}</li>" for r in analysis.reasons)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{esc(analysis.experiment)}: {analysis.verdict}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{esc(analysis.experiment)}</h1>",
        f'<section class="verdict {kind}"><h2>{analysis.verdict}</h2><ul>{reasons}</ul></section>',
        f"<p>{esc(config.treatment)} against {esc(config.control)}. Method: "
        f"{esc(analysis.method)}.</p>",
        "<h2>Metrics</h2>",
        _table(
            (
                "metric",
                "role",
                "finding",
                config.control,
                config.treatment,
                "difference",
                "relative",
                "p",
                "CUPED saves",
            ),
            map(_metric_row, analysis.metrics),
            numeric_from=3,
        ),
        *_plots(analysis, data, config),
        "<h2>Checks</h2>",
        _table(
            ("check", "result", "what was seen"),
            (
                [
                    esc(c.name),
                    '<span class="passed">passed</span>'
                    if c.passed
                    else '<span class="failed">failed</span>',
                    esc(c.text),
                ]
                for c in analysis.checks
            ),
        ),
        "<h2>Data</h2>",
        _table(
            ("what", "how many"),
            [
                *([f"sellers in {esc(v)}", f"{n:,}"] for v, n in analysis.units.items()),
                *([f"left out: {esc(r)}", f"{n:,}"] for r, n in analysis.left_out.items()),
                *(
                    [f"exposures: {esc(v)} by {esc(m)}", f"{n:,}"]
                    for v, versions in analysis.models.items()
                    for m, n in versions.items()
                ),
            ],
            numeric_from=1,
        ),
        *(f"<p>Note: {esc(n)}.</p>" for n in analysis.notes),
        *(
            f"<p><code>{esc(f)}</code> SHA-256 <code>{h}</code></p>"
            for f, h in analysis.inputs.items()
        ),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _plots(analysis: Analysis, data: Prepared, config: ExperimentConfig) -> list[str]:
    plots = []
    drawable = [m for m in analysis.metrics if m.problem is None and math.isfinite(m.relative)]
    if drawable:
        plots.append(
            _figure(
                _effects_plot(drawable),
                "Relative change of each metric with its interval",
                (8.0, 1.0 + 0.6 * len(drawable)),
            )
        )
    points = timeline(data, config)
    if len(points) > 1:
        caption = f"{config.primary.name}: the interval as the data came in"
        if not config.peeking:
            caption += " (only the last point counts: the horizon was fixed)"
        plots.append(_figure(_timeline_plot(points), caption, (8.0, 3.2)))
    arms = [data.units["variant"].eq(v) for v in (config.control, config.treatment)]
    if all(a.any() for a in arms) and data.units["first"].notna().all():
        plots.append(_figure(_arrivals_plot(data, config), "Sellers by first exposure", (8.0, 2.8)))
    for metric, result in zip(config.metrics, analysis.metrics, strict=True):
        if metric.quantile is not None and result.problem is None:
            draw = _distribution_plot(data, config, metric, metric.quantile)
            plots.append(_figure(draw, f"{metric.name}: distribution in both arms", (8.0, 3.0)))
    return plots
