"""Raw text → token shards. Read `preprocess.run` first: it is the graph."""
