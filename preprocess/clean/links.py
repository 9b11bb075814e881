"""Links of wikitext: the words that they show."""

import re
from collections import Counter

from preprocess.records import Wiki

_INTERWIKI = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?|simple")
# a file by its name's end, in whatever language its namespace is named
_MEDIA = re.compile(r"\.(?:jpe?g|png|gif|svg|tiff?|webp|xcf|pdf|djvu|og[agv]|web[mp]|mp3|wav|flac|midi?|stl)\s*", re.I)
# Files and categories of all wikis have the English names; older dumps use names that their heads do not tell.
_FILE_NAMES = """
file image media datei bild fichier imagen archivo immagine ficheiro imagem bestand afbeelding файл изображение plik
grafika fil tiedosto kuva soubor fájl kép ファイル 画像 文件 档案 檔案 图像 圖像 파일 그림
"""
_CATEGORY_NAMES = """
category kategorie catégorie categoría categoria категория kategoria カテゴリ 分类 分類 분류
"""
_FILES, _CATEGORIES = frozenset(_FILE_NAMES.split()), frozenset(_CATEGORY_NAMES.split())
_PROTOCOL = r"(?:https?|ftps?|irc|ircs|mailto|news|nntp|git|svn|telnet|gopher|sftp|ssh|tel|sip|sips|urn|magnet):|//"
# the words may hold one pair of brackets
_EXTERNAL = re.compile(rf"\[(?:{_PROTOCOL})[^\s\[\]<>]*(?:[^\S\n]+([^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)?))?\]", re.I)
_UNCLOSED = re.compile(rf"\[(?={_PROTOCOL})", re.I)


def internal(body: str, wiki: Wiki, removed: Counter[str]) -> str:
    """The words that `[[…]]` shows; nothing for files, categories and links to other languages."""
    target, _, shown = body.partition("|")
    target = target.strip()
    prefix, colon, rest = target.partition(":")
    if colon and prefix:
        namespace = prefix.strip().replace("_", " ").lower()
        if namespace in wiki.files or namespace in _FILES or _MEDIA.search(rest[-6:]):
            removed["files"] += 1
            return ""
        if namespace in wiki.categories or namespace in _CATEGORIES:
            removed["categories"] += 1
            return ""
        if not shown and _INTERWIKI.fullmatch(prefix):
            removed["interlanguage links"] += 1
            return ""
    return shown.rpartition("|")[2] if shown else target.removeprefix(":")


def external(text: str, removed: Counter[str]) -> str:
    """Links in single brackets as their words; without words they show a number, and go."""
    text, links = _EXTERNAL.subn(lambda match: match[1] or "", text)
    removed["external links"] += links
    return _UNCLOSED.sub("", text)
