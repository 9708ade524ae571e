"""Which record of the reference and which of the candidate compute the same thing, and by what evidence."""
