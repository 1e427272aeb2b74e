"""Whether a run folder is whole, unedited and of one piece."""
