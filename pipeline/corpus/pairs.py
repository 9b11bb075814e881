"""Reading a corpus of segment pairs (`packing: segment-pair`), for BERT's next-sentence prediction.

A pair is `<s> A </s> B </s>`: BERT's `[CLS] A [SEP] B [SEP]` with RoBERTa's special tokens. A shard's index has
`pairs.<T>`, (N, 4): where A begins and ends in the shard's tokens, and where B does.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.corpus.shards import PAIRS, Corpus, open_shards
from pipeline.errors import InputError


class PairBatch(NamedTuple):
    """What BertForPreTraining reads, before masking."""

    input_ids: npt.NDArray[np.int32]  # (B, T), `<pad>` at the end
    token_type_ids: npt.NDArray[np.int32]  # (B, T), 1 on B and the `</s>` after it
    next_sentence_label: npt.NDArray[np.int64]  # (B,), 0: B follows A, 1: it is of another document


class Pairs:
    """Pairs 0 … len − 1 of one split: all shards, one after the other.

    Args:
        corpus: an open corpus.
        split: `train`, `valid`, or `test` where the corpus has one.
        sequence_length: T, tokens a pair at most, special tokens included.

    Raises:
        InputError: the corpus holds no pairs, was not packed for that length, or the split has none.
    """

    def __init__(self, corpus: Corpus, split: str, sequence_length: int) -> None:
        corpus.check_packed(sequence_length, PAIRS)
        self.corpus, self.sequence_length = corpus, sequence_length
        self.shards = open_shards(corpus, split)
        self.pairs = [shard.index[f"pairs.{sequence_length}"] for shard in self.shards]
        self.first = np.cumsum([0, *map(len, self.pairs)])  # first pair of each shard
        if self.first[-1] == 0:
            raise InputError(f"{corpus.folder}: the {split} split has no pairs")

    def __len__(self) -> int:
        return int(self.first[-1])

    def read(self, numbers: npt.NDArray[np.int64]) -> PairBatch:
        """The pairs of these numbers, (B,)."""
        ids, place = self.corpus.special_ids, np.arange(self.sequence_length)
        which = np.searchsorted(self.first, numbers, side="right") - 1
        segments, labels = [], []
        for shard, local in zip(which.tolist(), (numbers - self.first[which]).tolist(), strict=True):
            begin, end, b_begin, b_end = self.pairs[shard][local].tolist()
            tokens, documents = self.shards[shard].tokens, self.shards[shard].index["documents"]
            segments += [tokens[begin:end], tokens[b_begin:b_end]]
            of = np.searchsorted(documents, np.array([begin, b_begin], np.uint64), side="right")
            labels.append(int(of[0] != of[1]))
        lengths = np.array([len(segment) for segment in segments]).reshape(-1, 2)
        middle, last = 1 + lengths[:, :1], 2 + lengths.sum(1, keepdims=True)  # where the two `</s>` are, (B, 1)
        out = np.full((len(numbers), self.sequence_length), ids["pad"], np.int32)
        out[:, 0] = ids["bos"]
        out[(place > 0) & (place < last) & (place != middle)] = np.concatenate(segments)
        out[(place == middle) | (place == last)] = ids["eos"]
        types = ((place > middle) & (place <= last)).astype(np.int32)
        return PairBatch(out, types, np.array(labels, np.int64))
