"""Mined triplets (GeneCIS, section 5.2): captions -> relations -> concreteness -> (reference, condition, target)."""
