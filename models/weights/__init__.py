"""Weights that stemrack ships, each with a manifest and a model card."""
