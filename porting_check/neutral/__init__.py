"""The neutral language: layouts, paddings, nodes, records and traces. Python 3.7, standard library and numpy."""
