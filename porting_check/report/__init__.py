"""Reports: the result as data, and its renderings."""
