"""LaVIN's instruction mixture: data to train on."""
