"""A results folder as pages of a local server, which follow it while runs go on."""
