"""As the package's own: its script is imported, which imports the table of models."""

from vlmeval import cli

cli()
