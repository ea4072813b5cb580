"""The rendered world `shapes`: scenes of coloured, textured shapes with known attributes, and its backbone."""
