"""The HTTP service: one process holds the model, answers photos, and refuses what it cannot do."""
