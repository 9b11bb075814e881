"""JSON lines, one document a line; the file may be compressed, and is read in ranges of lines where it is not."""

from collections.abc import Iterator

from preprocess import nested_json
from preprocess.records import META, DeadLetter, Document, Item, Unit, snippet
from preprocess.sources.lines import LONGEST, open_lines, oversized
from preprocess.sources.lines import ranges as line_ranges


def ranges(path: str, bytes: int, target: int) -> list[tuple[int, int, int]]:
    """(begin, end, lines before) of ranges that may be read by themselves."""
    return line_ranges(path, bytes, target, lambda line: True)


def read(unit: Unit) -> Iterator[Item]:
    """The documents of a unit. A line that cannot be read is a dead letter that names its number.

    Raises:
        TruncatedError: a compressed file is cut off. InputError: it is damaged, or UTF-16.
    """
    with open_lines(unit) as lines:
        for number, line in lines:
            if line.strip():
                yield _item(line, f"{unit.source}/{unit.name}#{number}", unit.source)


def _item(line: bytes, id: str, source: str) -> Item:
    if len(line) > LONGEST:
        return oversized(id, line)
    beginning = snippet(line[:1000].decode("utf-8", "backslashreplace"))
    try:
        value = nested_json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return DeadLetter(id, "read", "not-utf-8", f"not UTF-8 at byte {error.start} of the line", beginning)
    except ValueError as error:
        return DeadLetter(id, "read", "not-json", str(error), beginning)
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        return DeadLetter(id, "read", "no-text", 'expected an object whose "text" is a string', beginning)
    given = {key: str(value[key]) for key in ("id", "title", *META) if value.get(key) is not None}
    for key, shown in (*given.items(), ("text", text)):
        try:
            shown.encode("utf-8")
        except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
            found = f"{key}: half a surrogate pair at character {error.start}"
            return DeadLetter(id, "read", "not-utf-8", found, beginning)
    own_id = f":{given['id']}" if "id" in given else ""
    meta = {key: given[key] for key in META if key in given}
    return Document(id + own_id, source, given.get("title", ""), text, "plain", meta)
