"""Brings tasks and models together: schedules requests, keeps records, survives interruptions."""
