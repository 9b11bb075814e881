"""Pages that only list what a title may mean: told by their templates, or by the magic word."""

import re

# Names in the English Wikipedia, and in others those of their most common template (first letters of either case).
# Any name that ends in "disambiguation" is one: {{airport disambiguation}}; {{disambiguation needed}} marks a link.
_NAMES = """
disambiguation|disambig|disamb|dab|dbig|disambiguation page|disambiguation cleanup|disambig-cleanup|disambig cleanup
hndis|hndab|hndisambig|geodis|geo-dis|geodab|geodisambig|schooldis|roaddis|numberdis|mathdab|mathdisambig|callsigndis
shipindex|letter-numbercombdisambig|species latin name abbreviation disambiguation
begriffsklärung|homonymie|homonymie de personnes|patronymie|toponymie|paronymie|desambiguación|desambiguacion|disambigua
desambiguação|desambig|desambiguació|dezambiguizare|homónimos|dp|dpintro|doorverwijspagina|ujednoznacznienie
неоднозначность|многозначность|однофамильцы|неоднозначність|багатозначність|неадназначнасць|пояснение
вишезначна одредница|višeznačna odrednica|razdvojba|razločitev|förgrening|grensida|peker|pekerside|flertydig
täsmennyssivu|täpsustus|täpsustuslehekülg|rozcestník|rozlišovacia stránka|egyért|egyértelműsítő lap|anlam ayrımı
nuorodinis straipsnis|nozīmju atdalīšana|argipen|apartigilo|discretiva|disambiguasi|nyahkekaburan|dubbelsinnig
αποσαφήνιση|曖昧さ回避|aimai|人名の曖昧さ回避|地名の曖昧さ回避|消歧义|消歧義|消歧义页|消歧義頁|人名消歧义|人名消歧義|地名消歧义|地名消歧義
동음이의|동명이인|توضيح|ابهام‌زدایی|פירושונים|trang định hướng|định hướng|แก้กำกวม|बहुविकल्पी शब्द|բազմիմաստություն
მრავალმნიშვნელოვანი|айрық|dəqiqləşdirmə|aðgreining
"""
_KNOWN = frozenset(name for line in _NAMES.split("\n") for name in line.split("|") if name)
_TEMPLATE = re.compile(r"\{\{([^{}|\n]{1,80})(?:[|\n]|\}\})")
_MAGIC_WORD = "__DISAMBIG__"


def is_disambiguation(wikitext: str) -> bool:
    """Whether a page lists the meanings of its title and has no text of its own."""
    if _MAGIC_WORD in wikitext:
        return True
    names = (match[1].replace("_", " ").strip().lower() for match in _TEMPLATE.finditer(wikitext))
    return any(name in _KNOWN or name.endswith(" disambiguation") for name in names)
