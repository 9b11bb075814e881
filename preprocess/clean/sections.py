"""Headings of wikitext, and sections that hold lists of references and links."""

from collections import Counter
from typing import Literal

# the titles of such sections in the larger Wikipedias; what one calls its references is prose in another ("Literature")
_REFERENCES = """
en:references|notes|notes and references|references and notes|footnotes|citations|bibliography|see also|external links
en:further reading|works cited|references and further reading|external links and references|notes and citations
de:einzelnachweise|anmerkungen|fußnoten|literatur|weblinks|siehe auch|quellen|belege
fr:références|notes et références|notes|voir aussi|liens externes|bibliographie|articles connexes
es:referencias|notas|véase también|enlaces externos|bibliografía|notas y referencias
it:note|voci correlate|altri progetti|collegamenti esterni|bibliografia
pt:referências|notas|ver também|ligações externas|bibliografia
nl:bronnen|zie ook|externe links|externe link|literatuur|referenties|noten|bronnen, noten en/of referenties
pl:przypisy|zobacz też|linki zewnętrzne|bibliografia|uwagi
ru:примечания|литература|ссылки|см. также
uk:примітки|література|посилання|див. також|джерела
sv:referenser|se även|externa länkar|källor|noter
da:referencer|se også|eksterne henvisninger|kilder|noter
no:referanser|se også|eksterne lenker|litteratur|kilder
fi:viitteet|lähteet|katso myös|aiheesta muualla
cs:reference|související články|externí odkazy|literatura|poznámky
hu:jegyzetek|források|további információk|lásd még
tr:kaynakça|dış bağlantılar|ayrıca bakınız
zh:參考文獻|参考文献|参考资料|參考資料|外部链接|外部連結|外部連接|参见|參見|注释|註釋|脚注
ja:脚注|注釈|出典|関連項目|外部リンク|参考文献
ko:각주|같이 보기|외부 링크|참고 문헌
ar:المراجع|مراجع|وصلات خارجية|انظر أيضا
he:הערות שוליים|קישורים חיצוניים|ראו גם|לקריאה נוספת
fa:منابع|پیوند به بیرون|جستارهای وابسته
"""
_SAME_TITLES = {"simple": "en", "nb": "no", "nn": "no"}


def _titles() -> dict[str, frozenset[str]]:
    titles: dict[str, frozenset[str]] = {}
    for line in _REFERENCES.strip().split("\n"):
        language, _, names = line.partition(":")
        titles[language] = titles.get(language, frozenset()) | frozenset(names.split("|"))
    return titles


_BY_LANGUAGE = _titles()
_ANY = frozenset[str]().union(*_BY_LANGUAGE.values())


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


def drop_sections(text: str, headings: Literal["keep", "drop"], language: str, removed: Counter[str]) -> str:
    """Remove sections of references and links, and headings with nothing below them; the others become lines.

    Args:
        language: of the wiki, whose titles count; those of all languages, where it is unknown or has none here.
    """
    references = _BY_LANGUAGE.get(_SAME_TITLES.get(language, language), _ANY)
    first, *sections = _split(text)
    kept = ["\n".join(first[2])]
    dropped_level = 0  # of the section being dropped; its subsections go with it
    pending: list[tuple[int, str]] = []  # headings whose text has not come yet
    shown = 0
    for level, title, lines in sections:
        if dropped_level and level > dropped_level:
            continue
        dropped_level = level if title.strip("' ").lower() in references else 0
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
