"""report.html: a corpus at a glance, from its manifest alone; one file that loads nothing."""

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

import yaml

from preprocess.rates import rates
from preprocess.svg import bar_chart

REPORT = "report.html"
MOST_INPUTS = 200  # files that are listed; manifest.json has all

# what the file may load: nothing but its own style, whatever a source is called
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Pretraining corpus</title>
<style>
:root { color-scheme: light dark; --ink: #1d2330; --dim: #5b6475; --paper: #fff; --line: #dde1e8;
  --bar: #2f6fb7; --all: #eef1f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --dim: #a0a9b8; --paper: #14171d; --line: #323945; --bar: #6fa8e8; --all: #222732; }
}
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: .25rem; } h2 { margin: 2.5rem 0 .75rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem; } p { max-width: 45rem; } .dim { color: var(--dim); }
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; } pre { white-space: pre-wrap; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; margin: 1.25rem 0; }
dl div { padding: .6rem .8rem; border: 1px solid var(--line); border-radius: 8px; }
dt { color: var(--dim); font-size: .85rem; } dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 600; } .n { text-align: right; white-space: nowrap; }
svg { width: 100%; min-width: 34rem; max-width: 760px; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.bar { fill: var(--bar); } .all { fill: var(--all); } summary { cursor: pointer; color: var(--dim); }
</style>
</head>
<body>
"""

Cell = str | int


def _table(header: list[str], rows: Iterable[list[Cell]]) -> str:
    """A table; whole numbers are aligned on the right."""

    def cell(value: Cell) -> str:
        return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(value)}</td>"

    lines = list(rows)
    numbers = [bool(lines) and all(isinstance(row[column], int) for row in lines) for column in range(len(header))]
    heads = "".join(
        f'<th scope="col"{" class=n" if number else ""}>{escape(name)}</th>'
        for name, number in zip(header, numbers, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in lines)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _figures(figures: Mapping[str, str]) -> str:
    return (
        "<dl>" + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in figures.items()) + "</dl>"
    )


def _shares(title: str, counts: Mapping[str, int], whole: int) -> str:
    """Bars for counts, with what share of a whole each is."""
    shown = {label: f"{count:,} ({count / max(whole, 1):.1%})" for label, count in counts.items()}
    return _chart(title, counts, shown)


def _chart(title: str, values: Mapping[str, float], shown: Mapping[str, str], longest: float = 0) -> str:
    return f'<h3>{escape(title)}</h3>\n<div class="wide">{bar_chart(title, values, shown, longest)}</div>'


def _overview(manifest: dict[str, Any]) -> str:
    splits, counts = manifest["splits"].values(), manifest["counts"]
    size = sum(entry["bytes"] for name, entry in manifest["files"].items() if name.endswith((".tokens", ".index")))
    return f"""<h1>Pretraining corpus</h1>
<p class="dim">Corpus digest <code>{escape(manifest["corpus_digest"])}</code></p>
{_figures({
    "documents": f"{counts['kept']:,}",
    "sentences": f"{sum(split['sentences'] for split in splits):,}",
    "tokens": f"{counts['tokens']:,}",
    "tokens a document": f"{counts['tokens'] / counts['kept']:,.0f}",
    "shards": f"{sum(split['shards'] for split in splits):,}",
    "size of the shards": f"{size / 1e6:,.1f} MB",
    "vocabulary": f"{manifest['tokenizer']['vocab_size']:,}",
    "packing": str(manifest["packing"]),
})}"""  # fmt: skip


def _sources(manifest: dict[str, Any]) -> str:
    counts = manifest["counts"]["sources"]
    tokens = {name: found["tokens"] for name, found in counts.items()}
    rows: list[list[Cell]] = [
        [
            source["name"],
            source["type"],
            *(counts[source["name"]][key] for key in ("read", "kept", "tokens")),
            source["license"] or "not stated",
            source["attribution"] or "not stated",
        ]
        for source in manifest["config"]["sources"]
    ]
    header = ["source", "type", "texts read", "documents kept", "tokens", "licence", "attribution"]
    chart = _shares("Tokens by source", tokens, manifest["counts"]["tokens"])
    return f"<h2>Sources</h2>\n{chart}\n{_table(header, rows)}"


def _splits_of(manifest: dict[str, Any]) -> list[str]:
    """In an order of their own: a manifest that was read from its file has its keys sorted."""
    return sorted(manifest["splits"], key=["train", "valid", "test"].index)


def _range(low: int) -> str:
    return f"{low:,} to {2 * low - 1:,}" if low > 1 else "1"


def _lengths(manifest: dict[str, Any]) -> str:
    by_split = {split: manifest["counts"]["document_lengths"][split] for split in _splits_of(manifest)}
    keys = [int(key) for found in by_split.values() for key in found]
    bins = [2**n for n in range(min(keys).bit_length() - 1, max(keys).bit_length())]
    every = {_range(low): sum(found.get(str(low), 0) for found in by_split.values()) for low in bins}
    rows: list[list[Cell]] = [[_range(low), *(found.get(str(low), 0) for found in by_split.values())] for low in bins]
    chart = _shares("Documents by their number of tokens", every, manifest["counts"]["kept"])
    table = _table(["tokens", *by_split], rows)
    return f"<h2>Document lengths</h2>\n{chart}\n<details><summary>By split</summary>\n{table}\n</details>"


def _left_out(manifest: dict[str, Any]) -> str:
    """Texts that are not in the corpus, and what cleaning took out of those that are."""
    counts = manifest["counts"]
    dropped = {"exact duplicates": counts["duplicates"], "near-duplicates": counts["near_duplicates"]}
    for why, key in (("refused", "dead_letters"), ("skipped", "skipped")):
        dropped |= {f"{why}: {rule}": number for rule, number in counts[key].items()}
    parts = ["<h2>What was left out</h2>", _shares("Texts by rule", dropped, counts["read"])]
    parts.append('<p class="dim">Shares of all texts read. What was refused is in <code>dead-letters/</code>.</p>')
    rows: list[list[Cell]] = [
        [name, rule, number]
        for name, found in counts["sources"].items()
        for rule, number in {
            "exact duplicates": found["duplicates"],
            "near-duplicates": found["near_duplicates"],
            **{f"refused: {rule}": number for rule, number in found["dead_letters"].items()},
            **{f"skipped: {rule}": number for rule, number in found["skipped"].items()},
        }.items()
        if number
    ]
    parts.append(f"<details><summary>By source</summary>\n{_table(['source', 'rule', 'texts'], rows)}\n</details>")
    if removed := counts.get("removed"):
        parts.append(_shares("What cleaning removed from texts, by rule", removed, sum(removed.values())))
    return "\n".join(parts)


def _clusters(manifest: dict[str, Any]) -> str:
    near, sizes = manifest["config"]["dedup"]["near"], manifest["counts"]["cluster_sizes"]
    if near is None:
        return ""
    rule = f"MinHash over word {near['ngram']}-grams, {near['bands']} bands of {near['rows']} rows"
    what = "the first of each is kept" if near["action"] == "drop" else "all are kept, in one split"
    said = f"<h2>Near-duplicates</h2>\n<p>{rule}: {sum(sizes.values()):,} clusters; {what}.</p>"
    bins: dict[str, int] = {}
    for size, number in sorted(sizes.items(), key=lambda item: int(item[0])):
        label = size if int(size) < 8 else _range(2 ** (int(size).bit_length() - 1))
        bins[label] = bins.get(label, 0) + number
    return f"{said}\n{_shares('Clusters by their number of documents', bins, sum(bins.values()))}" if bins else said


def _tokenizer(manifest: dict[str, Any]) -> str:
    made, sources = manifest["tokenizer"], manifest["counts"]["sources"]
    fits = {"all sources": rates(made["encoded"], made["encoded"]["documents"])}
    fits |= {name: rates(found, found["kept"]) for name, found in sources.items()}
    figures = {
        "vocabulary": f"{made['vocab_size']:,}",
        "tokens a word": f"{fits['all sources'].tokens_a_word:.3f}",
        "characters a token": f"{fits['all sources'].characters_a_token:.2f}",
        "tokens that are bytes": f"{fits['all sources'].byte_share:.3%}",
        "documents with other ids in tokenizer.json": f"{made['mismatching_documents']:,}",
    }
    plots = [
        _chart(title, values, {name: form.format(value) for name, value in values.items()})
        for title, values, form in (
            ("Tokens a word (fertility)", {name: fit.tokens_a_word for name, fit in fits.items()}, "{:.3f}"),
            ("Characters a token", {name: fit.characters_a_token for name, fit in fits.items()}, "{:.2f}"),
            ("Share of tokens that are bytes", {name: fit.byte_share for name, fit in fits.items()}, "{:.3%}"),
        )
    ]
    return f"""<h2>Tokenizer</h2>
<p>{escape(made["type"])}; <span class="dim">fingerprint <code>{escape(made["fingerprint"])}</code></span></p>
{_figures(figures)}
{"".join(plots)}
<p class="dim">Words are what stands between white space: in Chinese and Japanese, whole sentences. Bytes stand for
characters that are no piece. The separators after documents are not counted.</p>"""


def _splits(manifest: dict[str, Any]) -> str:
    rows: list[list[Cell]] = []
    filled: dict[str, float] = {}
    shown: dict[str, str] = {}
    for name in _splits_of(manifest):
        split = manifest["splits"][name]
        least, most = (split["shard_tokens"][key] for key in ("min", "max"))
        figures = [split[key] for key in ("documents", "sentences", "tokens", "shards")]
        rows.append([name, *figures, least, most, f"{most / max(least, 1) - 1:.2%}"])
        for length in map(str, manifest["sequence_lengths"]):
            filled[f"{name}, {length} tokens"] = split["fill_rate"][length]
            shown[f"{name}, {length} tokens"] = f"{split['fill_rate'][length]:.2%} of {split['samples'][length]:,}"
    header = ["split", "documents", "sentences", "tokens", "shards", "smallest shard", "largest shard", "difference"]
    title = "Share of the samples' positions that are filled"
    chart = _chart(title, filled, shown, longest=1)
    return f"<h2>Splits, shards and samples</h2>\n{_table(header, rows)}\n{chart}"


def _made_from(manifest: dict[str, Any]) -> str:
    inputs = manifest["inputs"]
    files = _table(
        ["source", "file", "bytes", "SHA-256"],
        [[entry["source"], entry["name"], entry["bytes"], entry["sha256"]] for entry in inputs[:MOST_INPUTS]],
    )
    more = "<p>The others are in <code>manifest.json</code>.</p>" if len(inputs) > MOST_INPUTS else ""
    versions = _table(["library", "version"], [[name, found] for name, found in sorted(manifest["versions"].items())])
    settings = escape(yaml.safe_dump(manifest["config"], allow_unicode=True))
    size = sum(entry["bytes"] for entry in inputs)
    return f"""<h2>Made from</h2>
<details><summary>{len(inputs):,} files, {size / 1e6:,.1f} MB</summary>
{files}{more}
</details>
<details><summary>Settings</summary>
<pre>{settings}</pre>
</details>
<details><summary>Versions</summary>
{versions}
</details>"""


_SECTIONS: tuple[Callable[[dict[str, Any]], str], ...] = (
    _overview, _sources, _lengths, _left_out, _clusters, _tokenizer, _splits, _made_from,
)  # fmt: skip


def report(manifest: dict[str, Any]) -> str:
    """The report of a corpus, from a manifest that has its corpus digest; the same bytes for the same manifest."""
    sections = [section(manifest) for section in _SECTIONS]
    return _HEAD + "\n".join(filter(None, sections)) + "\n</body>\n</html>\n"
