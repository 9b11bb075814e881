"""Small real corpora for tests: random tokens in real shards under a real manifest, in milliseconds."""

from pathlib import Path

import numpy as np

from pipeline.corpus.shards import FORMAT, KIND, corpus_digest, shard_name, token_dtype, write_shard
from pipeline.files import MANIFEST, describe_files, digest_of, seal, write_json

SPECIAL_IDS = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 4}


def tiny_corpus(
    folder: Path,
    samples: int = 100,
    sequence_length: int = 16,
    vocab_size: int = 64,
    seed: int = 0,
    full: bool = False,
) -> Path:
    """A corpus of about `samples` train samples (and a quarter as many valid ones) in two shards a split.

    The ids follow a Markov chain, so there is something to learn; the last sample of a document is short, or,
    where samples are `full`, has the beginning of the next one.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names, splits = [], {}
    for split in ("train", "valid"):
        counts = {"documents": 0, "tokens": 0, "samples": {str(sequence_length): 0}}
        for shard in range(2):
            tokens, documents, begins = [], [0], [0]
            for _ in range(max(2, (samples if split == "train" else samples // 4) // 8)):
                length = int(random.integers(3 * sequence_length, 5 * sequence_length))
                ids = 5 + (np.cumsum(random.integers(0, 3, length)) + random.integers(0, vocab_size)) % (vocab_size - 5)
                first = documents[-1]
                tokens.append(np.append(ids, SPECIAL_IDS["eos"]))
                documents.append(first + length + 1)
                begins += [*range(first + sequence_length - 2, first + length, sequence_length - 2), first + length + 1]
            if full:
                begins = [*range(0, documents[-1], sequence_length - 2), documents[-1]]
            index = {"documents": documents, "sentences": documents, f"samples.{sequence_length}": begins}
            arrays = {key: np.array(value, np.uint64) for key, value in index.items()}
            flat = np.concatenate(tokens).astype(token_dtype(vocab_size))
            names += write_shard(folder, shard_name(split, shard, 2), flat, arrays)
            counts["documents"] += len(documents) - 1
            counts["tokens"] += len(flat)
            counts["samples"][str(sequence_length)] += len(begins) - 1
        splits[split] = {"shards": 2, **counts}
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "tokenizer": {"vocab_size": vocab_size, "special_ids": SPECIAL_IDS, "fingerprint": digest_of(vocab_size)},
        "packing": "full-sentences",
        "sequence_lengths": [sequence_length],
        "splits": splits,
        "files": describe_files(folder, names),
    }
    write_json(folder / MANIFEST, seal({**manifest, "corpus_digest": corpus_digest(manifest)}))
    return folder
