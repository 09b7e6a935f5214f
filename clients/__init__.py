"""Guests of the host; they know its control protocol and nothing else of it."""
