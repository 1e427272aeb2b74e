"""Benchmarks in VLMEvalKit's TSV files: a card names the file, the kind and the metric."""
