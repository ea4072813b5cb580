"""Features that are encoded once: backbones, transforms, and the store."""
