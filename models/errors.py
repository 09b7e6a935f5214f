"""Errors of the models package: each carries its facts and says what to do next.

ModelError
├─ SpecError       (also ValueError) a configuration or an argument that cannot work
├─ WeightsError    a weights file that is missing, damaged or of another network
├─ StreamingError  (also ValueError) a step that breaks the streaming contract
└─ DataError       training or evaluation material that cannot be used
"""


class ModelError(Exception):
    """Base of every error that `stemrack.models` raises on purpose."""


class SpecError(ModelError, ValueError):
    """A configuration or an argument that cannot work."""


class WeightsError(ModelError):
    """A weights file that is missing, damaged or belongs to another network."""


class StreamingError(ModelError, ValueError):
    """A step whose input breaks the streaming contract (shape or hop)."""


class DataError(ModelError):
    """Training or evaluation material that cannot be used as it is."""
