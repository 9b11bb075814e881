"""What `benchmarks.cleaning` counts as markup that was left."""

from benchmarks.cleaning import leftovers


def test_leftovers() -> None:
    words, found = leftovers(["a {{b}} [[File:c|thumb|d]]\n|-\n{| '''e''' <ref>f</ref> __NOTOC__", "plain text"])
    assert words == 10
    assert found == {
        "{{": 1,
        "}}": 1,
        "[[": 1,
        "]]": 1,
        "file:": 1,
        "thumb|": 1,
        "|-": 1,
        "{|": 1,
        "'''": 2,
        "<ref": 1,
        "</ref": 1,
        "__notoc__": 1,
    }
