"""Training: `prepare` turns audio into shards, `fit` turns shards into weights."""
