"""Packing (RoBERTa, Liu et al. 2019, section 4.2) as offsets into a shard's flat token array.

A sample takes whole consecutive sentences while they fit into T − 2 tokens (`<s>` and `</s>` are added when it is
read). FULL-SENTENCES goes on across the borders of documents, where the separator stays in as the extra `</s>` of the
paper; DOC-SENTENCES ends a sample with its document, so that samples are shorter. A sentence that is longer than a
whole sample begins a new one and is cut every T − 2 tokens; its last part goes on like a sentence.
"""

import numpy as np
import numpy.typing as npt

from preprocess.config import SentencePacking

Offsets = npt.NDArray[np.uint64]


def cut_long(sentences: Offsets, documents: Offsets, room: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(begins, ends) of the pieces that are packed, (P): the sentences, those that are longer cut every `room` tokens.

    A piece ends before the separator of its document.
    """
    begins, separated = sentences[:-1].astype(np.int64), sentences[1:].astype(np.int64)
    lengths = separated - np.isin(separated, documents[1:].astype(np.int64)) - begins
    pieces = np.maximum(1, -(-lengths // room))
    first = np.cumsum(pieces) - pieces  # where each sentence's pieces begin among all pieces
    within = np.arange(int(pieces.sum())) - np.repeat(first, pieces)
    cut = np.repeat(begins, pieces) + within * room
    return cut, np.minimum(cut + room, np.repeat(begins + lengths, pieces))


def pack(
    sentences: Offsets, documents: Offsets, sequence_length: int, packing: SentencePacking = "full-sentences"
) -> Offsets:
    """Where each sample begins, then where the last one ends (N + 1).

    Args:
        sentences: begins of the S sentences, then the number of tokens (S + 1).
        documents: begins of the D documents, then the number of tokens (D + 1); each document's last token is its
            separator, which belongs to its last sentence and needs no room where it ends a sample.
        sequence_length: T.
        packing: whether a sample may cross the border of documents.

    Returns:
        Offsets b with b[0] = 0: sample i is the tokens b[i] … b[i+1] − 1, at most T − 2 of them without a separator at
        the end, and as many sentences as fit.
    """
    room = sequence_length - 2
    total = int(sentences[-1])
    if total == 0:
        return np.zeros(1, np.uint64)
    begins, ends = cut_long(sentences, documents, room)
    fitting = np.searchsorted(ends, begins + room, side="right")  # first piece that no longer fits
    if packing == "doc-sentences":
        separators = documents[1:].astype(np.int64)
        borders = np.searchsorted(begins, separators)  # first piece of the document behind each separator
        fitting = np.minimum(fitting, borders[np.searchsorted(separators, begins, side="right")])
    following = fitting.tolist()
    packed, piece = [], 0
    while piece < len(following):
        packed.append(piece)
        piece = following[piece]
    return np.append(begins[packed], total).astype(np.uint64)
