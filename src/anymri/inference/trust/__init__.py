"""Trust in a study and its result: checks of the input, and the doubt that the result carries."""
