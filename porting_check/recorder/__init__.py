"""What runs inside a framework's environment: record a model, write a trace. Python 3.7, standard library and numpy."""
