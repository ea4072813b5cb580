"""The engine: contracts, backbone, feature store, ranking, metrics, statistics, runs, records and what people read."""
