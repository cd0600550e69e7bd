"""CVAT for images 1.1: XML with one ``<image>`` a photo and a four-point polygon a plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from platehide.crowd.interchange.base import (
    Annotation,
    Sizes,
    fail,
    make_quad,
    number,
    one_a_photo,
    pixels,
    read_text,
    rounded,
    write_text,
)
from platehide.types import FloatArray


@dataclass
class _Node:
    tag: str
    attributes: dict[str, str]
    line: int
    children: list[_Node] = field(default_factory=list)
    text: str = ""


def _parse(path: Path) -> _Node:
    """The document's root. Document types and entities are refused: they only serve attacks."""
    # The text is decoded already, whatever encoding the file declares.
    parser = expat.ParserCreate("utf-8")
    root = _Node("", {}, 0)
    stack = [root]

    def start(tag: str, attributes: dict[str, str]) -> None:
        node = _Node(tag, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(tag: str) -> None:
        del tag
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def doctype(*_: object) -> None:
        fail(f"{path}:{parser.CurrentLineNumber}", "a document type is not allowed")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(read_text(path).encode(), True)
    except expat.ExpatError as error:
        fail(f"{path}:{error.lineno}", f"not XML: {expat.ErrorString(error.code)}")
    except ValueError as error:
        fail(str(path), f"not XML: {error}")
    return root.children[0]


def _attribute(node: _Node, name: str, where: str) -> str:
    if name not in node.attributes:
        fail(where, f"<{node.tag}> has no '{name}'")
    return node.attributes[name]


def _points(text: str, where: str) -> list[list[float]]:
    points = []
    for pair in text.split(";"):
        values = pair.split(",")
        if len(values) != 2:
            fail(where, f"points must read 'x,y;x,y;…', got {pair!r}")
        points.append([number(v, "a coordinate", where) for v in values])
    return points


def _shape(node: _Node, path: Path) -> FloatArray | None:
    where = f"{path}:{node.line}"
    if node.tag == "polygon":
        return make_quad(_points(_attribute(node, "points", where), where), where)
    if node.tag == "skeleton":
        corners = [
            _points(_attribute(child, "points", where), where)[0]
            for child in node.children
            if child.tag == "points"
        ]
        return make_quad(corners, where)
    if node.tag != "tag":
        fail(where, f"a <{node.tag}> has no four free corners")
    return None


def read_cvat(path: Path, sizes: Sizes | None) -> list[Annotation]:
    """Read CVAT for images 1.1: polygons or skeletons of four points; tags are left aside."""
    del sizes
    root = _parse(path)
    if root.tag != "annotations":
        fail(f"{path}:{root.line}", f"must be <annotations>, got <{root.tag}>")
    version = next((c for c in root.children if c.tag == "version"), None)
    if version is None:
        fail(f"{path}:{root.line}", "<version> is missing")
    if version.text.strip() != "1.1":
        fail(f"{path}:{version.line}", f"version 1.1 is needed, got {version.text.strip()!r}")
    found = []
    for node in root.children:
        where = f"{path}:{node.line}"
        if node.tag == "track":
            fail(where, "a <track> is of a video; export 'CVAT for images 1.1'")
        if node.tag != "image":
            continue
        shapes = [_shape(child, path) for child in node.children]
        found.append(
            Annotation(
                image=_attribute(node, "name", where),
                width=pixels(_attribute(node, "width", where), "width", where),
                height=pixels(_attribute(node, "height", where), "height", where),
                plates=tuple(s for s in shapes if s is not None),
                split=node.attributes.get("subset", ""),
            )
        )
    return found


def write_cvat(path: Path, annotations: Sequence[Annotation]) -> None:
    """Write CVAT for images 1.1; workers and times have no place there."""
    one_a_photo(annotations, "CVAT XML")
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
    ]
    for k, a in enumerate(annotations):
        subset = f" subset={quoteattr(a.split)}" if a.split else ""
        lines.append(
            f'  <image id="{k}" name={quoteattr(a.image)}{subset} '
            f'width="{a.width}" height="{a.height}">'
        )
        for quad in a.plates:
            points = ";".join(f"{x:.4f},{y:.4f}" for x, y in rounded(quad))
            lines.append(
                f'    <polygon label="plate" source="manual" occluded="0" points="{points}" '
                'z_order="0"></polygon>'
            )
        lines.append("  </image>")
    lines.append("</annotations>")
    write_text(path, "\n".join(lines) + "\n")
