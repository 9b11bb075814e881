"""What a corpus is made of: the sources, and every number that its bytes depend on."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.configfile import Config
from pipeline.errors import nearest

OnTruncation = Literal["stop", "keep"]


class _Source(Config):
    """What all sources have, among it the provenance that the dataset card prints."""

    name: str = ""
    attribution: str = ""
    license: str = ""
    min_documents: int = Field(default=1, ge=0)  # fewer, after cleaning and filters, stop the run: a path may be wrong
    min_tokens: int = Field(default=0, ge=0)  # fewer, without duplicates, stop the run before anything is packed
    on_truncation: OnTruncation = "stop"  # or keep what a file that ends too early has; the rest is a dead letter

    @model_validator(mode="after")
    def _named(self) -> "_Source":
        name = self.name or self.type  # type: ignore[attr-defined]
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"found {name!r}; a source's name is made of letters, digits, '.', '_' and '-'")
        object.__setattr__(self, "name", name)  # the model is frozen: this completes it before anybody sees it
        return self


class _FileSource(_Source):
    paths: list[str] = Field(min_length=1)  # and globs


class _RangedSource(_FileSource):
    """Files that are read in parallel in ranges of at least so many bytes; the corpus does not depend on it."""

    range_bytes: int = Field(default=8_000_000, ge=1)


class WikipediaSource(_RangedSource):
    """MediaWiki XML dumps (`*-pages-articles*.xml.bz2`, gzip, zstd or plain), one page a document.

    Ranges are those of multistream dumps.
    """

    type: Literal["wikipedia"] = "wikipedia"


class BooksSource(_FileSource):
    """Plain-text (Project Gutenberg and the like) and Markdown books, one file a document."""

    type: Literal["books"] = "books"


class TextSource(_FileSource):
    """Text files taken as they are, one file a document."""

    type: Literal["text"] = "text"


class JsonlSource(_RangedSource):
    """JSON lines `{"id"?, "title"?, "text"}`, plain, gzip, bzip2 or zstd, one line a document."""

    type: Literal["jsonl"] = "jsonl"


class ExtractedSource(_RangedSource):
    """Wikipedia as extracted text: files of `<doc id="…" url="…" title="…">` … `</doc>`, one element a document."""

    type: Literal["extracted"] = "extracted"


class TableSource(_RangedSource):
    """Parquet or Arrow files with a `text` column, as Hugging Face datasets keeps them, one row a document."""

    type: Literal["table"] = "table"


class DatasetsSource(_Source):
    """What Hugging Face `datasets` loads, streamed, one row a document.

    `path` is a folder, a loader of `datasets` (`csv`, `json`, `parquet`, …) with `data_files`, or a name on the Hub
    with the commit as `revision`.
    """

    type: Literal["datasets"] = "datasets"
    path: str = Field(min_length=1)
    config_name: str | None = None
    data_files: list[str] = Field(default=[])
    split: str = "train"
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    text: str = "text"  # the column


FileSource = WikipediaSource | ExtractedSource | BooksSource | TextSource | JsonlSource | TableSource
Source = Annotated[
    FileSource | DatasetsSource,
    Field(discriminator="type"),
]


class CleanConfig(Config):
    unicode_form: Literal["NFC", "NFKC"] = "NFC"
    fix_encoding: bool = True  # "schÃ¶n" becomes "schön"
    headings: Literal["keep", "drop"] = "keep"  # of Wikipedia's articles: a line each
    max_characters: int = Field(default=10_000_000, ge=1)  # as read: it bounds a task; twice Shakespeare's works
    max_unbroken: int = Field(default=100_000, ge=1)  # characters without white space: a word to a tokenizer


Share = Annotated[float, Field(ge=0, le=1)]
Words = Annotated[int, Field(ge=1, le=50)]


class _RulesConfig(Config):
    """Rules that are off unless their section is there, if only as `{}`; the defaults are those that were published."""

    sources: list[str] | None = None  # the names of those that the rules are applied to; else to all

    def applies_to(self, source: str) -> bool:
        return self.sources is None or source in self.sources


class GopherQualityConfig(_RulesConfig):
    """Rae et al. 2021, "Scaling Language Models", A.1.1: what most documents of English prose keep to."""

    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=100_000, ge=1)
    min_mean_word_length: float = Field(default=3, ge=0)
    max_mean_word_length: float = Field(default=10, ge=1)
    max_symbols: float = Field(default=0.1, ge=0)  # a word: of `#`, and of ellipses
    max_bullet_lines: Share = 0.9
    max_ellipsis_lines: Share = 0.3
    min_alphabetic_words: Share = 0.8
    min_stop_words: int = Field(default=2, ge=0, le=8)


class GopherRepetitionConfig(_RulesConfig):
    """Rae et al. 2021, "Scaling Language Models", table A1: the shares of a document that are repetitions, at most."""

    duplicate_lines: Share = 0.3
    duplicate_paragraphs: Share = 0.3
    duplicate_line_characters: Share = 0.2
    duplicate_paragraph_characters: Share = 0.2
    top_ngram: dict[Words, Share] = Field(default={2: 0.2, 3: 0.18, 4: 0.16})  # of characters, by an n-gram's words
    duplicate_ngrams: dict[Words, Share] = Field(default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1})


class LanguageConfig(_RulesConfig):
    """The language of a document, told from its beginning."""

    accept: list[str] = Field(min_length=1)  # ISO 639 codes, such as `en`
    min_probability: Share = 0.65
    characters: int = Field(default=2000, ge=1)  # from the beginning: more take longer, and are hardly ever needed


class C4Config(_RulesConfig):
    """Raffel et al. 2020, "Exploring the Limits of Transfer Learning", 2.2, but for its list of bad words."""

    min_line_words: int = Field(default=5, ge=0)
    max_word_characters: int = Field(default=1000, ge=1)  # as in the code that made C4
    min_sentences: int = Field(default=3, ge=0)


class DecontaminateConfig(_RulesConfig):
    """Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: no text that models are tested on.

    A document that has `ngram` words in a row of an evaluation text is refused as a whole.
    """

    paths: list[str] = Field(min_length=1)  # JSON lines, JSON or plain text; perhaps compressed
    ngram: int = Field(default=13, ge=4, le=50)


class FilterConfig(Config):
    """Which cleaned documents are kept; the others go to dead letters."""

    min_characters: int = Field(default=200, ge=1)
    max_characters: int | None = Field(default=None, ge=1)
    min_words: int | None = Field(default=None, ge=1)
    max_words: int | None = Field(default=None, ge=1)
    language: LanguageConfig | None = None  # needs the extra kilobatch[language]
    c4: C4Config | None = None
    gopher_quality: GopherQualityConfig | None = None
    gopher_repetition: GopherRepetitionConfig | None = None
    decontaminate: DecontaminateConfig | None = None


class NearConfig(Config):
    """Near-duplicates by MinHash (`preprocess.minhash` has the curve): word n-grams, bands, rows a band."""

    ngram: int = Field(default=5, ge=1, le=50)
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=64)
    action: Literal["drop", "keep-together"] = "drop"  # all but the first of a cluster; or keep all, in one split


class DedupConfig(Config):
    near: NearConfig | None = None  # exact duplicates always go


class SplitConfig(Config):
    """Fractions of documents that are held out, chosen by content hash."""

    valid: float = Field(default=0.01, gt=0, lt=1)
    test: float = Field(default=0, ge=0, lt=1)  # 0: no such split

    @model_validator(mode="after")
    def _train_is_left(self) -> "SplitConfig":
        if self.valid + self.test >= 1:
            raise ValueError(f"found valid={self.valid} and test={self.test}; expected less than 1 in all")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return ("train", "valid", "test") if self.test else ("train", "valid")


class _TrainedConfig(Config):
    vocab_size: int = Field(default=32_768, ge=300, le=1_000_000)
    sample_characters: int = Field(default=100_000_000, ge=1_000)  # at most so much text is trained on


class _SentencePieceConfig(_TrainedConfig):
    """SentencePiece training. `threads` is part of the result: sums are added thread by thread."""

    character_coverage: float = Field(default=0.9995, gt=0.9, le=1)
    byte_fallback: Literal[True] = True
    threads: int = Field(default=2, ge=1, le=64)


class SentencePieceUnigramConfig(_SentencePieceConfig):
    type: Literal["sentencepiece-unigram"] = "sentencepiece-unigram"


class SentencePieceBpeConfig(_SentencePieceConfig):
    type: Literal["sentencepiece-bpe"] = "sentencepiece-bpe"


class ByteBpeConfig(_TrainedConfig):
    """Byte-level BPE as RoBERTa's own."""

    type: Literal["byte-bpe"] = "byte-bpe"


class LoadedConfig(Config):
    """A given tokenizer: a `tokenizer.json`, or a folder with one, or with `vocab.json` and `merges.txt`."""

    type: Literal["loaded"] = "loaded"
    path: Path


def _with_type(tokenizer: Any) -> Any:
    """A tokenizer whose type is not given is SentencePiece's unigram model."""
    untyped = isinstance(tokenizer, dict) and "type" not in tokenizer
    return {"type": "sentencepiece-unigram", **tokenizer} if untyped else tokenizer


SentencePieceConfig = SentencePieceUnigramConfig | SentencePieceBpeConfig
TrainedConfig = SentencePieceConfig | ByteBpeConfig
TokenizerConfig = Annotated[TrainedConfig | LoadedConfig, Field(discriminator="type"), BeforeValidator(_with_type)]


SentencePacking = Literal["full-sentences", "doc-sentences"]
Packing = SentencePacking | Literal["segment-pair"]


class ShardsConfig(Config):
    train: int = Field(default=8, ge=1, le=99_999)
    valid: int = Field(default=1, ge=1, le=99_999)
    test: int = Field(default=1, ge=1, le=99_999)  # if split.test is not 0


class DeadLettersConfig(Config):
    max_share: float = Field(
        default=0.5, ge=0, le=1
    )  # of a source's texts that cannot be read or cleaned: over it, stop


class CorpusConfig(Config):
    """One corpus: `configs/corpus/*.yaml`. Paths are relative to the current directory."""

    output: Path
    stages: Path | None = (
        None  # where finished stages are kept for later runs; else beside the output, until it is done
    )
    sources: list[Source] = Field(min_length=1)
    clean: CleanConfig = CleanConfig()
    filter: FilterConfig = FilterConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    dedup: DedupConfig = DedupConfig()
    split: SplitConfig = SplitConfig()
    tokenizer: TokenizerConfig = SentencePieceUnigramConfig()
    sequence_lengths: list[int] = Field(default=[128, 512], min_length=1)
    packing: Packing = "full-sentences"  # RoBERTa's names, see preprocess.pack and preprocess.pairs
    shards: ShardsConfig = ShardsConfig()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("sources")
    @classmethod
    def _distinct(cls, sources: list[Source]) -> list[Source]:
        names = [source.name for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are named {name!r}; give each its own name")
        return sources

    @model_validator(mode="after")
    def _filtered_sources_exist(self) -> "CorpusConfig":
        names = {source.name for source in self.sources}
        for key, rules in self.filter:
            for name in (rules.sources or ()) if isinstance(rules, _RulesConfig) else ():
                if name not in names:
                    raise ValueError(f"filter.{key}.sources: found {name!r}{nearest(name, names)}")
        return self

    @field_validator("sequence_lengths")
    @classmethod
    def _lengths(cls, lengths: list[int]) -> list[int]:
        if sorted(set(lengths)) != lengths or lengths[0] < 8 or lengths[-1] > 1_000_000:
            raise ValueError(f"found {lengths}; expected increasing numbers of tokens from 8 on, such as [128, 512]")
        return lengths
