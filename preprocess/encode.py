"""Text → token ids and where its sentences begin, with SentencePiece."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sentencepiece

from preprocess.sentences import spans


class Encoded(NamedTuple):
    """A document's ids, the separator at their end not yet among them, and the begins of its sentences (S)."""

    ids: npt.NDArray[np.uint32]
    sentences: npt.NDArray[np.uint64]


def _groups(text: str) -> list[list[tuple[int, int]]]:
    """Sentences that follow each other without a space (Chinese, Japanese) in one group.

    SentencePiece puts a space before whatever it encodes, so such a group must be encoded as one.
    """
    groups: list[list[tuple[int, int]]] = []
    for begin, end in spans(text):
        if groups and groups[-1][-1][1] == begin:
            groups[-1].append((begin, end))
        else:
            groups.append([(begin, end)])
    return groups


def _begins_within(
    group: list[tuple[int, int]], text: str, processor: sentencepiece.SentencePieceProcessor
) -> list[int]:
    """In a group's tokens, the first token of each sentence but the first."""
    offset = group[0][0]
    mapping = processor.encode(text[offset : group[-1][1]], out_type="offset_mapping", num_threads=1)
    token_begins = [begin for begin, _ in mapping["offsets"]]
    first = np.searchsorted(token_begins, [begin - offset for begin, _ in group[1:]])
    return [int(token) for token in np.unique(first) if 0 < token < len(token_begins)]


def encode(text: str, processor: sentencepiece.SentencePieceProcessor) -> Encoded:
    """Encode a normalised text sentence by sentence."""
    groups = _groups(text)
    pieces = [text[group[0][0] : group[-1][1]] for group in groups]
    encoded = processor.encode(pieces, out_type="numpy", num_threads=1)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    begins = np.cumsum(lengths) - lengths
    within = [
        int(begin) + token
        for group, begin in zip(groups, begins, strict=True)
        if len(group) > 1
        for token in _begins_within(group, text, processor)
    ]
    all_begins = np.sort(np.concatenate([begins, np.array(within, np.int64)]))
    return Encoded(np.concatenate(encoded).astype(np.uint32), all_begins.astype(np.uint64))
