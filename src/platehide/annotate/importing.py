"""Answers and labels of other tools, put on the photos of a project.

The photos must be there already; a row of the file finds its photo by name, or by the last part
of the name where that is unique. What a row becomes is the requester's choice (``Use``):

* ``answers``: judgements in the log, each by a worker of its own that nobody can sign in as.
  Labels and everything else follow from them as from any answer. They cost nothing here.
* ``labels``: decisions of the requester, final until reopened.
* ``proposals``: shown to be corrected, as the detector's finds are.
* ``control``, ``training``: the known answer of a photo, which stops being a task.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from platehide.annotate import schema
from platehide.annotate.answers import read_answer
from platehide.annotate.auth import add_user, join
from platehide.annotate.db import AnyRow, Database, new_id, serialise
from platehide.annotate.exporting import export_name
from platehide.annotate.faults import BadAnswer, NotFound
from platehide.annotate.photo_states import lowest_slot, refresh_free
from platehide.annotate.projects import Projects, check_truth
from platehide.annotate.settings import ProjectSettings
from platehide.crowd.interchange import FORMATS, Annotation, FormatName, read
from platehide.errors import UsageError

Use = Literal["answers", "labels", "proposals", "control", "training"]
MAX_UNPACKED_BYTES = 256 << 20
MAX_UNPACKED_FILES = 200_000
_UNPACKED = (".txt", ".json", ".yaml")


@dataclass
class AnnotationReport:
    """What came of a file: rows taken, rows that were there already, rows refused and why."""

    added: int = 0
    known: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"added": self.added, "known": self.known, "refused": self.refused}


def default_use(form: FormatName) -> Use:
    """Answers of formats that know workers, labels of the others."""
    return "answers" if form in ("judgements", "toloka", "label-studio") else "labels"


def read_upload(
    data: bytes, name: str, form: FormatName, sizes: dict[str, tuple[int, int]]
) -> list[Annotation]:
    """The annotations of an uploaded file; YOLO-pose, a folder, comes as a ZIP.

    Raises:
        UsageError: it cannot be read; names line and reason.
    """
    with tempfile.TemporaryDirectory(prefix="platehide-import-") as folder:
        # What the messages call the file; nothing of the caller's name but its letters.
        given = PurePosixPath(name)
        stem = "".join(c for c in given.stem if c.isalnum() or c in "-_ ")[:60]
        ending = "".join(c for c in given.suffix if c.isalnum())[:10]
        suffix = f".{ending}" if ending and FORMATS[form].suffix else FORMATS[form].suffix
        path = Path(folder) / f"{stem or form}{suffix}"
        if form == "yolo-pose":
            _unpack(data, path)
            inner = [p for p in path.iterdir() if p.is_dir()]
            if not (path / "labels").is_dir() and len(inner) == 1:
                path = inner[0]
        else:
            path.write_bytes(data)
        try:
            return read(path, form, sizes=sizes)
        except UsageError as error:
            raise UsageError(str(error).replace(f"{folder}/", "")) from error


def _unpack(data: bytes, folder: Path) -> None:
    """Texts of a ZIP, and only those; nothing can land outside ``folder``."""
    packed = folder.with_suffix(".zip")
    packed.write_bytes(data)
    folder.mkdir()
    try:
        with zipfile.ZipFile(packed) as archive:
            items = [i for i in archive.infolist() if i.filename.lower().endswith(_UNPACKED)]
            too_many = len(items) > MAX_UNPACKED_FILES
            if too_many or sum(i.file_size for i in items) > MAX_UNPACKED_BYTES:
                raise UsageError("the ZIP holds more than labels can take up")
            for item in items:
                parts = PurePosixPath(item.filename).parts
                if item.filename.startswith("/") or ".." in parts or "\\" in item.filename:
                    raise UsageError(f"the ZIP holds the name {item.filename[:80]!r}")
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(item) as source, target.open("xb") as out:
                    shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise UsageError(f"not a ZIP that can be read: {error}") from error
    packed.unlink()


class _Photos:
    """Photos of a project by their names: in full, in our exports, and by the last part where
    that is unique.
    """

    def __init__(self, db: Database, project_id: str) -> None:
        p = schema.photos
        query = sa.select(p.c.id, p.c.name, p.c.blob, p.c.width, p.c.height, p.c.purpose)
        with db.read() as connection:
            rows = connection.execute(query.where(p.c.project_id == project_id)).all()
        self._by_name: dict[str, AnyRow] = {export_name(r.name, r.blob, r.id): r for r in rows}
        self._by_name |= {r.id: r for r in rows}  # what our own judgements call a task
        self._by_name |= {r.name: r for r in rows}
        self._by_tail: dict[str, list[AnyRow]] = {}
        for row in rows:
            if not row.name.startswith("control/"):  # our own copies of settled photos
                self._by_tail.setdefault(PurePosixPath(row.name).name, []).append(row)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name and last part of the name -> (width, height) px."""
        found = {t: (r[0].width, r[0].height) for t, r in self._by_tail.items() if len(r) == 1}
        return found | {n: (r.width, r.height) for n, r in self._by_name.items()}

    def find(self, image: str) -> AnyRow:
        """The photo that a file calls ``image``: a name, a path or a URL.

        Raises:
            NotFound: no photo, or several.
        """
        path = urlsplit(image).path if "://" in image else image
        last = PurePosixPath(path).name
        for name in (image, image.removeprefix("images/"), last):
            if name in self._by_name:
                return self._by_name[name]
        tail = self._by_tail.get(last, [])
        if len(tail) != 1:
            what = "no photo" if not tail else "more than one photo"
            raise NotFound(f"{image}: {what} of this name in the project")
        return tail[0]


def import_annotations(
    db: Database,
    projects: Projects,
    project_id: str,
    actor_id: str,
    source: Path | bytes,
    *,
    name: str,
    form: str,
    use: str | None = None,
) -> AnnotationReport:
    """Read a file (or an uploaded one's bytes) and put its rows on the project's photos; doing
    it again changes nothing.

    Raises:
        UsageError: the file cannot be read as ``form``, or ``use`` does not fit it. Nothing has
            changed then; a single row that does not fit is refused in the report.
    """
    chosen = _format_name(form)
    kind = _use(use, chosen)
    photos = _Photos(db, project_id)
    sizes = photos.sizes()
    rows = (
        read_upload(source, name, chosen, sizes)
        if isinstance(source, bytes)
        else read(source, chosen, sizes=sizes)
    )
    if kind == "answers" and not any(a.worker or a.golden is not None for a in rows):
        raise UsageError(f"{form} names no workers; import it as labels or proposals")
    report = AnnotationReport()
    rows = sorted(rows, key=lambda a: a.submitted_at or 0.0)
    for a in rows:
        try:
            photo = photos.find(a.image)
            if (photo.width, photo.height) != (a.width, a.height):
                raise BadAnswer(
                    f"{a.image}: {a.width}x{a.height} in the file, "
                    f"{photo.width}x{photo.height} in the project"
                )
            with db.write(project_id) as connection:
                serialise(connection, project_id)
                fresh = _take(connection, projects, project_id, actor_id, photo.id, a, kind)
        except (UsageError, BadAnswer, NotFound) as error:
            words = str(error)
            reason = words if words.startswith(a.image) else f"{a.image}: {words}"
            report.refused.append({"name": a.image, "reason": reason})
            continue
        report.added += int(fresh)
        report.known += int(not fresh)
    return report


def _format_name(form: str) -> FormatName:
    for name in get_args(FormatName):
        if name == form:
            return name  # type: ignore[no-any-return]
    raise UsageError(f"unknown format {form!r}; use one of {', '.join(FORMATS)}")


def _use(use: str | None, form: FormatName) -> Use:
    if use is None:
        return default_use(form)
    for name in get_args(Use):
        if name == use:
            return name  # type: ignore[no-any-return]
    raise UsageError(f"annotations are imported as {', '.join(get_args(Use))}, not {use!r}")


def _take(
    connection: Connection,
    projects: Projects,
    project_id: str,
    actor_id: str,
    photo_id: str,
    a: Annotation,
    use: Use,
) -> bool:
    """Put one row on its photo; False when it is there already."""
    p = schema.photos
    photo = connection.execute(sa.select(p).where(p.c.id == photo_id)).one()
    now = projects.clock()
    if use == "answers":
        turned = a.golden is not None and _make_known(connection, photo, "control", a.golden)
        if not a.worker:
            return turned
        if turned:
            photo = connection.execute(sa.select(p).where(p.c.id == photo_id)).one()
        return _answer(connection, project_id, photo, a, now) or turned
    if a.skip:
        raise BadAnswer("a skip is neither a plate nor 'no plate'")
    if use in ("control", "training"):
        return _make_known(connection, photo, use, a.plates if a.golden is None else a.golden)
    if photo.purpose != "task":
        raise BadAnswer(f"it is a {photo.purpose} photo")
    known = check_truth({"plates": [q.tolist() for q in a.plates]}, a.width, a.height, a.image)
    if use == "proposals":
        proposal = {"model": "imported", "plates": known["plates"]} if known["plates"] else None
        if photo.proposal == proposal:
            return False
        connection.execute(p.update().where(p.c.id == photo.id).values(proposal=proposal))
        return True
    return _label(connection, project_id, actor_id, photo.id, known, now)


def _label(
    connection: Connection,
    project_id: str,
    actor_id: str,
    photo_id: str,
    known: dict[str, Any],
    now: float,
) -> bool:
    g = schema.log
    last = connection.execute(
        sa.select(g.c.kind, g.c.body)
        .where(g.c.photo_id == photo_id, g.c.kind.in_(("expert", "accept", "reopen")))
        .order_by(g.c.seq.desc())
        .limit(1)
    ).first()
    if last is not None and last.kind == "expert" and last.body.get("plates") == known["plates"]:
        return False
    connection.execute(
        g.insert().values(
            at=now,
            project_id=project_id,
            kind="expert",
            actor_id=actor_id,
            photo_id=photo_id,
            assignment_id=None,
            body={**known, "imported": True},
        )
    )
    return True


def _make_known(
    connection: Connection, photo: AnyRow, purpose: Literal["control", "training"], plates: Any
) -> bool:
    """Make a photo that nobody has seen a control or training photo."""
    truth = check_truth(
        {"plates": [q.tolist() for q in plates]}, photo.width, photo.height, photo.name
    )
    if photo.purpose == purpose:
        if photo.truth != truth:
            raise BadAnswer("it has another known answer already")
        return False
    if photo.purpose != "task":
        raise BadAnswer(f"it is a {photo.purpose} photo")
    a, p, s = schema.assignments, schema.photos, schema.photo_state
    seen = connection.execute(
        sa.select(a.c.id).where(a.c.photo_id == photo.id, a.c.state != "expired").limit(1)
    ).first()
    if seen is not None:
        raise BadAnswer(f"somebody has seen it: it cannot become a {purpose} photo")
    values = {"purpose": purpose, "truth": truth, "proposal": None}
    connection.execute(p.update().where(p.c.id == photo.id).values(**values))
    connection.execute(s.delete().where(s.c.photo_id == photo.id))
    return True


def _answer(
    connection: Connection, project_id: str, photo: AnyRow, a: Annotation, now: float
) -> bool:
    """One worker's answer into the log, as if it had been given here."""
    if photo.purpose == "training":
        raise BadAnswer("it is a training photo")
    given: dict[str, Any] = {"skip": True} if a.skip else {"plates": [q.tolist() for q in a.plates]}
    j = schema.projects
    stored = connection.execute(sa.select(j.c.settings).where(j.c.id == project_id)).scalar_one()
    several = ProjectSettings.from_json(stored).several_plates
    clean = read_answer(given, photo.width, photo.height, several=several)
    worker_id = _worker(connection, project_id, a.worker, now)
    t = schema.assignments
    old = connection.execute(
        sa.select(t.c.id).where(
            t.c.photo_id == photo.id, t.c.worker_id == worker_id, t.c.state != "expired"
        )
    ).first()
    if old is not None:
        return False
    at = now if a.submitted_at is None else a.submitted_at
    assignment_id = new_id()
    told = json.dumps([photo.id, clean], sort_keys=True)
    client_id = "import-" + hashlib.sha256(told.encode()).hexdigest()[:40]
    connection.execute(
        t.insert().values(
            id=assignment_id,
            project_id=project_id,
            photo_id=photo.id,
            worker_id=worker_id,
            kind=photo.purpose,
            slot=lowest_slot(connection, photo.id) if photo.purpose == "task" else -1,
            state="submitted",
            proposed=False,
            price=0.0,
            leased_at=at - (a.seconds or 0.0),
            expires_at=at,
            submitted_at=at,
            client_id=client_id,
            attempts=0,
        )
    )
    body = {
        "answer": clean,
        "seconds": None if a.seconds is None else round(a.seconds, 3),
        "client_id": client_id,
        "kind": photo.purpose,
        "proposed": False,
        "price": 0.0,
        "imported": True,
    }
    if photo.purpose == "task":
        refresh_free(connection, photo.id)
    connection.execute(
        schema.log.insert().values(
            at=at,
            project_id=project_id,
            kind="judgement",
            actor_id=worker_id,
            photo_id=photo.id,
            assignment_id=assignment_id,
            body=body,
        )
    )
    return True


def _worker(connection: Connection, project_id: str, name: str, now: float) -> str:
    """The stand-in for another tool's worker: the same one each time, and nobody can sign in.

    Our own exports name members of the project by id: those are meant.
    """
    m = schema.members
    users = schema.users
    member = connection.execute(
        sa.select(m.c.user_id)
        .join(users, users.c.id == m.c.user_id)
        .where(m.c.project_id == project_id, m.c.user_id == name, users.c.role == "worker")
    ).scalar()
    if member is not None:
        return str(member)
    shown = " ".join("".join(c for c in name if c.isprintable()).split())[:60] or "worker"
    label = f"imported: {shown}"
    told = hashlib.sha256(f"{project_id}\n{name}".encode()).hexdigest()
    if shown != name:
        label += f" {told[:6]}"  # two names that look the same here are two workers
    found = connection.execute(
        sa.select(users.c.id)
        .join(m, m.c.user_id == users.c.id)
        .where(m.c.project_id == project_id, users.c.name == label, users.c.disabled.is_(True))
    ).scalar()
    if found is not None:
        return str(found)
    worker_id = add_user(connection, "worker", label, now)
    connection.execute(users.update().where(users.c.id == worker_id).values(disabled=True))
    join(connection, project_id, worker_id, now)
    return worker_id
