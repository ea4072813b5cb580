"""Files: strict reading, whole writing, hashes, weights, tables, feature files, galleries in parts."""
