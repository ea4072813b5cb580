"""Hydra's config groups, one YAML file per choice. A package, so that `pkg://condsim.conf` resolves."""
