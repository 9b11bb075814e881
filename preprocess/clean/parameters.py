"""The name and the parameters of a template, as MediaWiki tells them apart."""

from dataclasses import dataclass

_SUPERSCRIPT = str.maketrans("0123456789+-−–", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻")
_PREFIXES = ("template:", "subst:")


@dataclass(frozen=True)
class Parameters:
    """`p[1]` is the first positional parameter, `p["abbr"]` a named one; one that is not there is ""."""

    name: str
    positional: list[str]
    named: dict[str, str]

    @classmethod
    def parse(cls, body: str) -> "Parameters":
        """From what is between `{{` and `}}`; the name in lower case, with its colon where it is a function."""
        first, *parts = body.split("|")
        name = " ".join(first.replace("_", " ").split()).lower()
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        function, colon, _ = name.partition(":")
        if colon:  # {{formatnum:1000}}
            name = function + ":"
            parts.insert(0, first.partition(":")[2])
        positional: list[str] = []
        named: dict[str, str] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if equals:
                named[key.strip().lower()] = value.strip()
            else:
                positional.append(part.strip())
        while (key := str(len(positional) + 1)) in named:  # "1=" says what "=" in a positional one cannot
            positional.append(named.pop(key))
        return cls(name, positional, named)

    def __getitem__(self, key: int | str) -> str:
        if isinstance(key, str):
            return self.named.get(key, "")
        return self.positional[key - 1] if key <= len(self.positional) else ""


def superscript(text: str) -> str:
    """`text` raised, where it is a number: 10 to the power of 6 must not become 106."""
    return text.translate(_SUPERSCRIPT) if text.strip("0123456789+-−–") == "" else text
