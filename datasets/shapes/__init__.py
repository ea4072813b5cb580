"""The rendered world `shapes`: scenes of coloured, textured shapes with known attributes, and the backbone trained on
it.
"""
