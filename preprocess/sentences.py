"""Sentences of a text, by rule and for any language: packing cuts a sample between them.

A line end always ends a sentence. Within a line the rules are those of UAX #29 (Unicode, sentence boundaries) with
abbreviations, and of GB/T 15834 for Chinese, where only 。！？ end a sentence and the marks that close a quotation go
with it. A quotation of several sentences is cut between them; who says it (“Go!” he said. “走！”他说。) is not cut off.
Where the rules leave a doubt there is no cut.

Of the libraries, sentencex 1.0 comes nearest and is faster in English (80 MB/s a core against 43; in Chinese 27 against
29), but it keeps a quotation whole however long it is (up to 1,100 characters in a Chinese novel, here 610), cuts
behind a straight mark that opens one, and must be told the language. Of 36 English and 28 Chinese lines made to compare
them it cut 7 and 11 wrongly, blingfire 0.1.8 (19 and 12 MB/s) 8 and 22, pysbd 0.3 (under 0.5 MB/s) 14 and 18, this 0
and 1.
"""

import re

_TITLES, _BEFORE_NUMBERS, _PERHAPS_LAST = (
    frozenset(words.split())
    for words in (
        "mr mrs ms dr prof st rev hon gen col capt lt sgt maj adm gov sen fr mt messrs mme mlle e.g i.e viz ca approx",
        "c no nos vol vols fig figs p pp ch chap sec art jan feb mar apr jun jul aug sep sept oct nov dec",
        "etc jr sr esq inc ltd co corp bros al vs cf ed eds trans dept est",
    )
)
_STARTER = re.compile(
    r"[\"'“‘«(\[]*(?:The|An?|It|He|She|They|We|You|I|This|That|These|Those|There|Here|In|On|At|As|By|For|From|If|When"
    r"|While|After|Before|But|And|So|Then|His|Her|Its|Their|My|Our|What|Who|How|Why|Where|However)(?=[ ,'’])"
)
_ENUMERATOR = re.compile(r"[(（]?(?:\d{1,3}|[A-Za-z]|[IVXLC]{1,6}|[一二三四五六七八九十]{1,3})")

# who has said it, after a quotation: in English one that ends in ! or ?, in Chinese any (a colon announces the next)
_SAID = "said|says|asked|cried|replied|answered|exclaimed|shouted|whispered|called|inquired|demanded|returned|repeated"
_REPORTED = re.compile(rf"(?!(?:He|She|They|The|It|We|You) )(?:[A-Z][\w'’-]*\.? ){{1,3}}(?:{_SAID})\b")
_REPORTED_HAN = re.compile(r"[^\n，、。！？；：…“”「」『』\"]{0,8}(?<![听聽不能])[说說道问問答喊叫][。，！]")

_WIDE = frozenset("。！？｡．")
_OTHER_SCRIPTS = frozenset("؟۔।॥։።။")  # Arabic, Urdu, Devanagari, Armenian, Ethiopic, Burmese: nothing is abbreviated
_QUOTES = frozenset("\"'”’»」』")
_CLOSING = r"'”’»」』)\]）】〕"  # and at most one straight quotation mark: a second one opens
_MARKS = "".join(sorted({*".!?…⋯", *_WIDE, *_OTHER_SCRIPTS}))
_ABBREVIATED = _TITLES | _BEFORE_NUMBERS | _PERHAPS_LAST
_LONGEST = max(map(len, _ABBREVIATED))
_OPENING = frozenset("\"'“‘«([—-¿¡$£€「『（《")
_COMMAS = "，、；：,;:》〉"
_CONTINUING = frozenset(_COMMAS)  # no sentence begins with one
_QUOTED_WORDS = frozenset("的地之和与與或及と")  # after a question or an exclamation that is only quoted
_TITLE_CHARACTERS = 30

# Line ends; 1: a full stop before a space and a capital, 2: a wide mark that nothing closes and no comma follows: most
# sentences end so in English and in Chinese; 3: what closes after other marks. Marks before a line end decide nothing.
# `re` searches several times as fast for a pattern that begins with one class.
_CANDIDATE = re.compile(
    rf"[\n{_MARKS}](?:(?<=\n)\n*+|(?<![{_MARKS}]{{2}})(?:(?<=\.)(?= [A-Z])()"
    rf"|(?<=[。！？])(?=[^\n\"{_MARKS}{_CLOSING}{_COMMAS}])()"
    rf"|[{_MARKS}]*+([{_CLOSING}]*+\"?+[{_CLOSING}]*+)(?!\n|\Z)))"
)


def _han(character: str) -> bool:
    """Is it of a script that is written without spaces: Han, kana, their full-width forms?"""
    return "\u2e80" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef" or character >= "\U00020000"


def _ellipsis(marks: str) -> bool:
    return marks != "." and not marks.strip(".…⋯")


def _abbreviated(text: str, begin: int, end: int) -> bool:
    """Is the full stop at `end`, before a space and a capital, a digit or an opening mark, that of an abbreviation?"""
    word = text[max(text.rfind(" ", begin, end) + 1, begin) : end].lstrip("\"'“‘«([")
    lower = word.lower()
    if lower in _TITLES:
        return True
    if text[end + 2 : end + 3].isdigit() and (lower in _BEFORE_NUMBERS or (word.istitle() and 1 < len(word) <= 4)):
        return True
    initial = len(word) == 1 and word.isupper() and word != "I"
    dotted = "." in word and word.replace(".", "").isalpha()
    return (initial or dotted or lower in _PERHAPS_LAST) and not _STARTER.match(text, end + 2)


def _before_space(text: str, begin: int, at: int, marks: str, closing: str) -> bool:
    """Does the sentence end at these marks, which a space follows?"""
    end = at + len(marks) + len(closing)
    follows = text[end + 1 : end + 2]
    if not (follows in _OPENING or (follows.isalnum() and not follows.islower())):
        return False
    if marks == ".":
        return not (_ENUMERATOR.fullmatch(text, begin, at) or (not closing and _abbreviated(text, begin, at)))
    if _ellipsis(marks):
        return not (follows == "I" and text[end + 2 : end + 3] in " '’")
    return not (closing and _REPORTED.match(text, end + 1))


def _in_title(text: str, begin: int, at: int) -> bool:
    """Is the mark at `at` within a title in 《》 of the sentence that began at `begin`?"""
    if begin < at - _TITLE_CHARACTERS:
        begin = at - _TITLE_CHARACTERS
    opened = text.rfind("《", begin, at)
    return opened >= 0 and opened > text.rfind("》", begin, at)


def _before_han(text: str, begin: int, at: int, marks: str, closing: str) -> bool:
    """Does the sentence end at these marks, which need no space after them?"""
    end = at + len(marks) + len(closing)
    follows = text[end : end + 1]
    if follows in _CONTINUING or _in_title(text, begin, at):
        return False
    if marks in ".．" and _ENUMERATOR.fullmatch(text, begin, at):
        return False
    if _ellipsis(marks):
        return follows in _OPENING
    if not closing:
        return True
    if closing[-1] in _QUOTES and _REPORTED_HAN.match(text, end):
        return False
    return not (marks[-1] in "！？!?" and (closing[-1] not in _QUOTES or follows in _QUOTED_WORDS))


def _ends(text: str, begin: int, at: int, marks: str, closing: str) -> bool:
    """Does the sentence that began at `begin` end at the marks at `at` and what closes after them?"""
    if marks[0] in _OTHER_SCRIPTS:
        return True
    end = at + len(marks) + len(closing)
    before, follows = text[at - 1 : at], text[end : end + 1]
    if _WIDE.isdisjoint(marks):
        if follows == " ":
            return _before_space(text, begin, at, marks, closing)
        if not (_han(follows) and (_han(before) or marks[0] in "!?")) and not (_han(before) and follows in _OPENING):
            return False
    elif marks == "．" and not _han(before):
        return False
    return _before_han(text, begin, at, marks, closing)


def _whole(word: str) -> bool:
    """Is it a word that no rule takes for an abbreviation or an enumerator? Quick, and right for most."""
    if len(word) > _LONGEST:
        return word.isalpha()
    return len(word) > 1 and word.isalpha() and word.islower() and word not in _ABBREVIATED


def spans(text: str) -> list[tuple[int, int]]:
    """(begin, end) of each sentence in a normalised text, the spaces between them in none."""
    found = []
    begin = 0
    quotes, counted = 0, 0  # quotation marks of this line before `counted`
    for match in _CANDIDATE.finditer(text):
        at, end = match.span()
        kind = match.lastindex
        if kind is None:
            if at > begin:
                found.append((begin, at))
            begin, quotes, counted = end, 0, end
            continue
        if kind == 1:
            space = text.rfind(" ", begin, at)
            word = text[space + 1 if space > 0 else begin : at]
            ends = _whole(word) or _ends(text, begin, at, ".", "")
        elif kind == 2:
            ends = not _in_title(text, begin, at)
        else:
            marks, closing = text[at : match.start(3)], match[3]
            if closing[:1] == '"' and text[end] != " ":  # does it close what was said, or open what is?
                quotes, counted = quotes + sum(text.count(mark, counted, at) for mark in '"“”'), at
                if quotes % 2 == 0:
                    end, closing = match.start(3), ""
            ends = _ends(text, begin, at, marks, closing)
        if ends:
            found.append((begin, end))
            begin = end + (text[end] == " ")
    if begin < len(text):
        found.append((begin, len(text)))
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a normalised text."""
    return [text[begin:end] for begin, end in spans(text)]
