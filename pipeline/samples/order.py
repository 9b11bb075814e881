"""Which sample comes when: an endless stream of samples, each epoch a keyed permutation (law 1).

Global index g = 0, 1, 2, … counts the samples of a run (Megatron's `consumed_samples`). Sample g is element
g mod N of the permutation of epoch g div N, and a permutation is a Feistel network over the next power of two with
cycle walking (Black & Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002): any index of any epoch costs the
same few microseconds and no memory, so resuming at sample 10⁹ is resuming at sample 0.
"""

import numpy as np
import numpy.typing as npt

from pipeline.keyed import GOLDEN, U64, derive, mix

BLOCK = 4096  # samples permuted at once where they are read one after the other: the cost of numpy's calls is shared
ROUNDS = 8  # Luby–Rackoff needs 4 with a random function; twice that for small domains

Indices = npt.NDArray[np.int64]


class Order:
    """The order of a run.

    Args:
        samples: N, the samples of an epoch.
        seed: of the run.
        corpus_digest: so that another corpus has another order.
    """

    def __init__(self, samples: int, seed: int, corpus_digest: str) -> None:
        assert 0 < samples <= 2**62
        self.samples, self.seed, self.corpus_digest = samples, seed, corpus_digest
        self.bits = max(2, (samples - 1).bit_length())
        self._blocks: dict[int, Indices] = {}

    def __getitem__(self, global_index: Indices) -> Indices:
        """The samples at these global indices, shape (B,), which may lie in any epochs."""
        epochs, positions = np.divmod(global_index, self.samples)
        out = np.empty_like(positions)
        for epoch in np.unique(epochs):  # a batch touches one epoch or two
            here = epochs == epoch
            out[here] = self._permute(int(epoch), positions[here])
        return out

    def run(self, first: int, last: int) -> Indices:
        """The samples at `first` … `last` − 1. Neighbouring calls share the work of a whole block."""
        blocks = [self._block(number) for number in range(first // BLOCK, (last - 1) // BLOCK + 1)]
        offset = first // BLOCK * BLOCK
        return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks))[first - offset : last - offset]

    def _block(self, number: int) -> Indices:
        if number not in self._blocks:
            if len(self._blocks) > 8:
                self._blocks.clear()
            self._blocks[number] = self[np.arange(number * BLOCK, (number + 1) * BLOCK)]
        return self._blocks[number]

    def _permute(self, epoch: int, positions: Indices) -> Indices:
        key = derive("order", self.seed, self.corpus_digest, epoch)
        round_keys = mix(np.arange(1, ROUNDS + 1, dtype=np.uint64) * GOLDEN ^ np.uint64(key))
        values = self._feistel(positions.astype(np.uint64), round_keys)
        while (outside := np.flatnonzero(values >= self.samples)).size:
            values[outside] = self._feistel(values[outside], round_keys)
        return values.astype(np.int64)

    def _feistel(self, values: U64, round_keys: U64) -> U64:
        """A permutation of 0 … 2^bits − 1; the halves differ by one bit when `bits` is odd."""
        left_bits, right_bits = self.bits // 2, self.bits - self.bits // 2
        for key in round_keys:
            left = values >> np.uint64(right_bits)
            right = values & np.uint64((1 << right_bits) - 1)
            left ^= mix(right ^ key) & np.uint64((1 << left_bits) - 1)
            values = right << np.uint64(left_bits) | left
            left_bits, right_bits = right_bits, left_bits
        return values
