"""Active learning: the detector looks at open photos first, its doubt decides their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from platehide.annotate import schema
from platehide.annotate.db import Database
from platehide.annotate.media import PhotoStore
from platehide.detection import Detector, Findings
from platehide.errors import ImageError
from platehide.formats import open_photo
from platehide.types import Detection

LOW_CONF = 0.05
PROPOSE_FROM = 0.3


def uncertainty(found: Sequence[Detection]) -> float:
    """Doubt 0…1 of a detector about a photo: the largest 4·p·(1 − p) of its candidates.

    A candidate of 0.5 gives 1, a sure one near 0. No candidate above 0.05 counts like one of
    0.05, because nothing found is not nothing there.
    """
    confidences = [d.confidence for d in found] or [LOW_CONF]
    return max(4.0 * p * (1.0 - p) for p in confidences)


def _candidates(findings: Findings) -> list[Detection]:
    return sorted([*findings.plates, *findings.doubtful], key=lambda d: -d.confidence)


def rank_photos(
    db: Database, photos: PhotoStore, project_id: str, detector: Detector
) -> dict[str, Any]:
    """Look at every open photo; store its priority and proposal, order the photos by priority.

    Control and training photos are never looked at: they must not carry a proposal.
    """
    p, s = schema.photos, schema.photo_state
    with db.read() as connection:
        rows = connection.execute(
            sa.select(p.c.id, p.c.blob, p.c.name, p.c.width, p.c.height)
            .join(s, s.c.photo_id == p.c.id)
            .where(s.c.project_id == project_id, s.c.status == "open", p.c.purpose == "task")
        ).all()
    ranked = proposed = 0
    failed: list[dict[str, str]] = []
    for row in rows:
        try:
            photo = open_photo(photos.get(row.blob))
            found = _candidates(detector.detect(photo.frames[0], LOW_CONF))
        except (ImageError, OSError) as error:
            failed.append({"name": row.name, "reason": str(error)})
            continue
        doubt = uncertainty(found)
        plates = [
            np.clip(d.quad, 0, [row.width, row.height]).round(2).tolist()
            for d in found
            if d.confidence >= PROPOSE_FROM
        ]
        with db.write(project_id) as connection:
            connection.execute(
                p.update()
                .where(p.c.id == row.id)
                .values(
                    priority=round(doubt, 6),
                    proposal={"model": detector.model, "plates": plates} if plates else None,
                )
            )
            connection.execute(s.update().where(s.c.photo_id == row.id).values(rank=-doubt))
        ranked += 1
        proposed += bool(plates)
    return {"ranked": ranked, "proposed": proposed, "failed": failed, "model": detector.model}
