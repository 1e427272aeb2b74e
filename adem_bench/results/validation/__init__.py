"""Whether a run folder is complete, unedited and consistent."""
