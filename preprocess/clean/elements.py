"""Elements and tags of wikitext: what is no prose goes with its content, of the others only the tags go."""

import re
from collections import Counter

from preprocess.clean.parameters import superscript

# elements whose content is no prose → the rule that counts them. Formulas and program text are dropped: a reader sees
# what LaTeX or a program draws and computes, not the source that stands here.
_DROPPED = {
    "ref": "references",
    "references": "references",
    "table": "tables",
    "gallery": "files",
    "imagemap": "files",
    **dict.fromkeys(("math", "chem", "ce"), "formulas"),
    **dict.fromkeys(("pre", "syntaxhighlight", "source"), "code"),
    **dict.fromkeys(("timeline", "score", "hiero", "graph", "mapframe", "maplink", "templatedata"), "elements"),
    **dict.fromkeys(("inputbox", "categorytree", "includeonly", "templatestyles", "section"), "elements"),
}
_ELEMENT = re.compile(rf"<(/?)({'|'.join(sorted(_DROPPED, key=len, reverse=True))})\b([^<>]*)>", re.I)
_BLOCK_TAG = re.compile(r"</?(?:br|p|div|hr|blockquote|poem|center|li|ul|ol|dl|dt|dd|tr|h[1-6])\b[^<>]*>\n?", re.I)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
_SUPERSCRIPT = re.compile(r"<sup\b[^<>]*>([-+−–\d]{1,12})</sup\s*>", re.I)


def drop_elements(text: str, removed: Counter[str]) -> str:
    """Remove elements whose content is no prose; one that is never closed loses its tag only."""
    parts, position, depth = [], 0, 0
    last_close = {match[2].lower(): match.start() for match in _ELEMENT.finditer(text) if match[1]}
    inside, last_end = "", 0  # of the element that is being dropped, and where it was closed last
    for match in _ELEMENT.finditer(text):
        closing, name, attributes = match[1], match[2].lower(), match[3]
        opens = not closing and not attributes.endswith("/")
        if inside:
            if name == inside:
                depth += (opens and name == "table") - bool(closing)  # tables alone are nested
            if name == inside and closing:
                last_end = match.end()
            if depth == 0:
                inside, position = "", match.end()
            continue
        parts.append(text[position : match.start()])
        position = match.end()
        removed[_DROPPED[name]] += not closing
        if opens and last_close.get(name, -1) > match.start():
            inside, depth = name, 1
    parts.append(text[last_end if inside else position :])
    return "".join(parts)


def drop_tags(text: str, removed: Counter[str]) -> str:
    """Remove tags: those of blocks end the line, and powers stay powers."""
    text = _SUPERSCRIPT.sub(lambda match: superscript(match[1]), text)
    text, blocks = _BLOCK_TAG.subn("\n", text)
    text, others = _TAG.subn("", text)
    removed["tags"] += blocks + others
    return text
