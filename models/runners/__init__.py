"""Runners: one network step, one engine each."""
