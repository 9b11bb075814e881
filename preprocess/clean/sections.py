"""Headings of wikitext, and sections that hold lists of references and links."""

from collections import Counter
from typing import Literal

# the titles of such sections in the larger Wikipedias
_REFERENCES = """
references|notes|notes and references|references and notes|footnotes|citations|sources|bibliography|see also
external links|further reading|works cited|literature|einzelnachweise|anmerkungen|fußnoten|literatur|weblinks
siehe auch|quellen|références|notes et références|voir aussi|liens externes|bibliographie|articles connexes
referencias|notas|véase también|enlaces externos|bibliografía|notas y referencias|note|voci correlate
altri progetti|collegamenti esterni|bibliografia|referências|ver também|ligações externas|bronnen|zie ook
externe links|externe link|literatuur|referenties|bronnen, noten en/of referenties|przypisy|zobacz też
linki zewnętrzne|примечания|литература|ссылки|см. также|примітки|література|посилання|див. також|джерела
referenser|se även|externa länkar|källor|referencer|se også|eksterne henvisninger|kilder|referanser
eksterne lenker|viitteet|lähteet|katso myös|aiheesta muualla|reference|související články|externí odkazy
literatura|jegyzetek|források|további információk|lásd még|kaynakça|dış bağlantılar|ayrıca bakınız|參考文獻
参考文献|参考资料|參考資料|外部链接|外部連結|外部連接|参见|參見|注释|註釋|脚注|注釈|出典|関連項目|外部リンク
각주|같이 보기|외부 링크|참고 문헌|المراجع|مراجع|وصلات خارجية|انظر أيضا|הערות שוליים|קישורים חיצוניים|ראו גם
לקריאה נוספת|منابع|پیوند به بیرون|جستارهای وابسته
"""
_DROPPED = frozenset(title for line in _REFERENCES.split("\n") for title in line.split("|") if title)


def _heading(line: str) -> tuple[int, str] | None:
    """(level, title) of a line that is a heading: between two and six `=` on both sides of at least one character."""
    line = line.rstrip()
    before, after = len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("="))
    level = min(before, after, 6, (len(line) - 1) // 2)
    return (level, line[level:-level].strip()) if level >= 2 else None


def _split(text: str) -> list[tuple[int, str, list[str]]]:
    """(level, title, lines) of each section; the first is what stands before all headings."""
    sections: list[tuple[int, str, list[str]]] = [(0, "", [])]
    for line in text.split("\n"):
        heading = _heading(line) if line.startswith("==") else None
        if heading:
            sections.append((*heading, []))
        else:
            sections[-1][2].append(line)
    return sections


def drop_sections(text: str, headings: Literal["keep", "drop"], removed: Counter[str]) -> str:
    """Remove sections of references and links, and headings with nothing below them; the others become lines."""
    first, *sections = _split(text)
    kept = ["\n".join(first[2])]
    dropped_level = 0  # of the section being dropped; its subsections go with it
    pending: list[tuple[int, str]] = []  # headings whose text has not come yet
    shown = 0
    for level, title, lines in sections:
        if dropped_level and level > dropped_level:
            continue
        dropped_level = level if title.strip("' ").lower() in _DROPPED else 0
        pending = [above for above in pending if above[0] < level]
        if dropped_level:
            removed["sections"] += 1
            continue
        removed["headings"] += 1  # unless it is shown
        pending.append((level, title))
        body = "\n".join(lines)
        if body.strip():
            if headings == "keep":
                kept += [f"\n\n{words}\n" for _, words in pending]
                shown += len(pending)
            kept.append(f"\n\n{body}")
            pending = []
    removed["headings"] -= shown
    return "".join(kept)
