"""ScienceQA: multiple-choice science questions with and without an image."""
