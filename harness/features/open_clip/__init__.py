"""The encoder: models of open_clip behind the feature store."""
