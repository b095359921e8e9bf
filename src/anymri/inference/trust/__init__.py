"""How far a study and its result can be trusted: checks of the input, and the doubt that the result carries."""
