"""Whatever fsspec reaches."""
