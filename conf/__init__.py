"""Hydra's config groups: what can be chosen, one YAML a choice. A package, so that `pkg://condsim.conf` resolves."""
