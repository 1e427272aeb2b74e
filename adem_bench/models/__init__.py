"""Models: each answers requests, and knows no task."""
