"""The way out: training layout, judgements, and other tools' formats."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, cast

import sqlalchemy as sa

from platehide.annotate import schema
from platehide.annotate.db import Database
from platehide.annotate.media import PhotoStore
from platehide.annotate.projects import split_of
from platehide.annotate.records import judgement_of, judgement_query, quads
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.interchange import Annotation, FormatName, write
from platehide.errors import UsageError
from platehide.files import write_whole
from platehide.geometry import hull_box


def label_rows(db: Database, project_id: str, *, include: str = "agreed") -> list[dict[str, Any]]:
    """Rows of annotations.jsonl, photos by name: settled photos, or ``all`` with a label.

    ``split`` is fixed by the hash of the photo's group. ``blob`` names the stored picture and is
    taken out before the row is written.
    """
    s, p = schema.photo_state, schema.photos
    with db.read() as connection:
        stored = connection.execute(
            sa.select(schema.projects.c.settings, schema.projects.c.slug).where(
                schema.projects.c.id == project_id
            )
        ).one()
        settings = ProjectSettings.from_json(stored.settings)
        query = (
            sa.select(p, s.c.status, s.c.final, s.c.result, s.c.judgements, s.c.posterior)
            .join(s, s.c.photo_id == p.c.id)
            .where(s.c.project_id == project_id)
            .order_by(p.c.name)
        )
        if include == "agreed":
            query = query.where(s.c.status == "agreed")
        rows = connection.execute(query).all()
    out = []
    for row in rows:
        if row.result is None:
            continue
        plates = []
        for plate in row.result["plates"]:
            box = hull_box(plate["quad"]).round(2).tolist()
            plates.append({"quad": plate["quad"], "box": box})
        out.append(
            {
                "image": f"images/{export_name(row.name, row.blob, row.id)}",
                "width": row.width,
                "height": row.height,
                "split": split_of(row.grp, settings.split_val, settings.split_test),
                "plates": plates,
                "source": row.source or f"platehide-annotate:{stored.slug}/{row.name}",
                "licence": row.licence or "not stated",
                "group": row.grp,
                "complete": settings.several_plates,
                "judgements": row.judgements,
                "posterior": round(float(row.posterior), 4),
                "blob": row.blob,
            }
        )
    return out


def export_name(name: str, blob: str, photo_id: str) -> str:
    """A flat, unique and harmless file name that still tells where it came from."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in PurePosixPath(name).stem)
    return f"{stem[:60]}-{photo_id[:8]}{PurePosixPath(blob).suffix}"


def export_layout(
    db: Database, photos: PhotoStore, project_id: str, target: Path, *, include: str = "agreed"
) -> int:
    """Write ``images/`` and ``annotations.jsonl`` into a new folder; returns the photo count.

    Written beside the target under a temporary name and renamed: the folder is whole or absent.

    Raises:
        UsageError: the folder exists and is not empty, or there is nothing to export.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target}: exists and is not an empty folder")
    rows = label_rows(db, project_id, include=include)
    if not rows:
        raise UsageError("nothing to export: no photo is settled yet")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "images").mkdir(parents=True)
        with (temporary / "annotations.jsonl").open("w", encoding="utf-8") as lines:
            for row in rows:
                blob = row.pop("blob")
                (temporary / row["image"]).write_bytes(photos.get(blob))
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        if target.exists():
            target.rmdir()
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return len(rows)


def judgement_rows(
    db: Database, project_id: str, *, all_answers: bool = False
) -> list[dict[str, Any]]:
    """The raw answers as rows of the ``aggregate`` contract; dropped ones only on request."""
    with db.read() as connection:
        rows = connection.execute(judgement_query(project_id)).all()
    out = []
    for row in rows:
        if row.state != "submitted" and not all_answers:
            continue
        out.append(judgement_of(row).row() | {"image": row.name})
    return out


def label_annotations(db: Database, project_id: str) -> list[Annotation]:
    """Settled labels for other tools' formats."""
    return [
        Annotation(
            image=row["image"].removeprefix("images/"),
            width=row["width"],
            height=row["height"],
            plates=quads([p["quad"] for p in row["plates"]]),
            task=row["image"].removeprefix("images/"),
            split=row["split"],
        )
        for row in label_rows(db, project_id)
    ]


def answer_annotations(db: Database, project_id: str) -> list[Annotation]:
    """Answers that count, for formats that know workers (Toloka, Label Studio)."""
    with db.read() as connection:
        rows = connection.execute(judgement_query(project_id)).all()
    found = []
    for row in rows:
        if row.state != "submitted":
            continue
        j = judgement_of(row)
        found.append(
            Annotation(
                image=row.name,
                width=j.width,
                height=j.height,
                plates=j.plates,
                worker=j.worker,
                task=j.task,
                submitted_at=j.submitted_at,
                seconds=j.seconds,
                skip=j.skip,
                golden=j.golden,
            )
        )
    return found


def export_as(db: Database, photos: PhotoStore, project_id: str, target: Path, form: str) -> int:
    """Write a project in one of the formats; returns the number of photos or answers.

    Raises:
        UsageError: the target exists, or there is nothing to write.
    """
    if form == "layout":
        return export_layout(db, photos, project_id, target)
    if target.exists():
        raise UsageError(f"{target}: exists already")
    if form == "judgements":
        rows = judgement_rows(db, project_id)
        write_whole(target, "".join(json.dumps(r) + "\n" for r in rows).encode())
        return len(rows)
    answers = form in {"toloka", "label-studio"}
    found = (answer_annotations if answers else label_annotations)(db, project_id)
    if not found:
        raise UsageError("nothing to export yet")
    write(target, found, cast(FormatName, form))
    return len({a.image for a in found})
