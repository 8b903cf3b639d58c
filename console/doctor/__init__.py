"""Looks at everything Llumdeck stands on and says in plain words what is wrong and what to do."""
