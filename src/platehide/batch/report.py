"""The summary as a page, and the most doubtful photos on a sheet. Both show plates: they are
never written below the destination.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

from platehide.batch.facts import Quad, RowFacts
from platehide.batch.manifest import Manifest, State
from platehide.batch.summary import WIDTHS, Summary
from platehide.errors import ImageError, UsageError
from platehide.formats import open_photo

_CELL_W, _CELL_H, _CAPTION, _COLUMNS = 320, 240, 18, 6

ReadPhoto = Callable[[str], bytes]
"""Bytes of a photo by its name in the manifest; raises ``ImageError``."""


def contact_sheet(doubtful: Iterable[RowFacts], read: ReadPhoto) -> bytes | None:
    """A JPEG with the photos as they were read and what was found on them outlined.

    ``None`` where there is nothing doubtful.
    """
    photos = list(doubtful)
    if not photos:
        return None
    columns = min(_COLUMNS, len(photos))
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (columns * _CELL_W, rows * (_CELL_H + _CAPTION)), (32, 32, 32))
    draw = ImageDraw.Draw(sheet)
    for number, facts in enumerate(photos):
        x = number % columns * _CELL_W
        y = number // columns * (_CELL_H + _CAPTION)
        name = facts.key.encode("ascii", "replace").decode()
        least = f"{min(facts.confidences):.2f}" if facts.confidences else facts.status
        draw.text((x + 4, y + _CELL_H + 3), f"{least}  {name[-44:]}", fill=(230, 230, 230))
        try:
            cell = _cell(read(facts.image), facts.quads)
            sheet.paste(cell, (x + (_CELL_W - cell.width) // 2, y))
        except ImageError as error:
            draw.text((x + 8, y + 8), str(error)[:50], fill=(255, 120, 120))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=85)
    return out.getvalue()


def _cell(data: bytes, quads: Iterable[Quad]) -> Image.Image:
    frame = open_photo(data).frames[0]
    width, height = frame.size_wh
    image = Image.fromarray(np.ascontiguousarray(frame.overview(2 * _CELL_W)))
    scale = min(_CELL_W / width, _CELL_H / height)
    image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))))
    draw = ImageDraw.Draw(image)
    for quad in quads:
        points = [(point[0] * scale, point[1] * scale) for point in quad]
        draw.line([*points, points[0]], fill=(255, 220, 0), width=2)
    return image


def summarise(manifest: Manifest, state: State) -> Summary:
    """Read a whole manifest, one shard at a time."""
    summary = Summary()
    for shard in range(state.shards):
        for facts in manifest.load(shard, RowFacts.of).rows.values():
            summary.add(facts)
    return summary


def html_page(summary: Summary, state: State, price: float, sheet: bytes | None) -> str:
    """The report as one page that needs nothing else."""
    total = max(1, summary.photos)

    def table(head: str, counts: Counter[str], names: Iterable[str]) -> str:
        largest = max([1, *counts.values()])
        lines = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{counts[name]}</td>"
            f'<td><div class="bar" style="width:{200 * counts[name] / largest:.0f}px"></div></td>'
            "</tr>"
            for name in names
        )
        return f"<h2>{html.escape(head)}</h2><table>{lines}</table>"

    aside = "".join(
        f"<tr><td>{html.escape(image)}</td><td>{status}</td><td>{html.escape(code)}</td></tr>"
        for image, status, code in summary.set_aside
    )
    picture = (
        f'<h2>Most doubtful photos</h2><img alt="contact sheet" '
        f'src="data:image/jpeg;base64,{base64.b64encode(sheet).decode()}">'
        if sheet
        else ""
    )
    runs = "".join(
        f"<tr><td>{run.get('number')}</td><td>{html.escape(str(run.get('started')))}</td>"
        f"<td>{html.escape(str(run.get('model')))}</td>"
        f"<td>{html.escape(str(run.get('engine')))}</td></tr>"
        for run in state.runs
    )
    words = "".join(f"<li>{html.escape(line)}</li>" for line in summary.lines(price))
    failed = 100 * summary.failed / total
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>platehide batch report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 2px 12px; text-align: left; }}
td {{ font-variant-numeric: tabular-nums; }} img {{ max-width: 100%; }}
.bar {{ background: #3b76c4; height: 12px; }}
</style>
<h1>Batch report</h1>
<p>Source: {html.escape(state.source)}; {state.shards} shards; {failed:.2f} % set aside.</p>
<ul>{words}</ul>
{table("Outcomes", summary.statuses, ("hidden", "none", "unsure", "error"))}
{table("Plates by width in px", summary.widths, WIDTHS)}
{table("Plates by confidence", summary.confidences, sorted(summary.confidences))}
{table("Models", summary.models, sorted(summary.models))}
{table("Reasons for setting aside", summary.codes, sorted(summary.codes)) if summary.codes else ""}
{picture}
<h2>Set aside{" (the first 1000)" if len(summary.set_aside) >= 1000 else ""}</h2>
<table>{aside or "<tr><td>none</td></tr>"}</table>
<h2>Runs</h2><table>{runs}</table>
</html>
"""


def open_manifest(url: str) -> tuple[Manifest, State]:
    """A manifest by its own folder or by the destination it belongs to.

    Raises:
        UsageError: there is none.
    """
    for candidate in (url, url.rstrip("/") + "/_platehide"):
        manifest = Manifest(candidate)
        state = manifest.state()
        if state is not None:
            return manifest, state
    raise UsageError(f"no manifest in {url}")
