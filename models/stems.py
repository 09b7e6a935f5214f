"""The four stems and the rate the networks are trained at."""

STEMS = ("drums", "bass", "other", "vocals")
"""Names of the stems in the one order used everywhere (Danna-Sep's)."""

N_STEMS = len(STEMS)

MODEL_RATE_HZ = 44_100
"""Rate of every network here; other rates are converted at the edge."""
