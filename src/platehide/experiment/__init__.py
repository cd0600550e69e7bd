"""Plan, read and judge A/B tests. Needs the extra ``experiment``."""
