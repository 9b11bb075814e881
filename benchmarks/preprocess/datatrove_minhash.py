"""Peer: near-duplicates with datatrove's MinHash pipeline (signatures, buckets, clusters, filter), two processes.

    python -m benchmarks.preprocess.datatrove_minhash OUTPUT INPUT_FOLDER          (pip install 'kilobatch[bench]')

The same 5-grams, 14 bands (buckets) and 8 rows (hashes) as ours.
"""

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

PROCESSES = 2


def main(output: Path, texts: str) -> None:
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    tasks = len(list(Path(texts).iterdir()))  # one a file

    def execute(name: str, tasks: int, *steps: object) -> None:
        LocalPipelineExecutor(
            [*steps], tasks=tasks, workers=PROCESSES, logging_dir=str(output / "logs" / name), skip_completed=False
        ).run()

    signatures, buckets, removed = (str(output / name) for name in ("signatures", "buckets", "removed"))
    execute("signatures", tasks, JsonlReader(texts), MinhashDedupSignature(signatures, config=config))
    execute("buckets", config.num_buckets, MinhashDedupBuckets(signatures, buckets, config=config))
    execute("clusters", 1, MinhashDedupCluster(buckets, removed, config=config))
    kept = JsonlWriter(str(output / "kept"))
    execute("filter", tasks, JsonlReader(texts), MinhashDedupFilter(removed), kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
