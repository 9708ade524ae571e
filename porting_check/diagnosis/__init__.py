"""Diagnosis: which known mistake a divergent pair is, proven by making the change and evaluating again."""
