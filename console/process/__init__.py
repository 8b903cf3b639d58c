"""Running the whole of Llumdeck on one machine: children, their readiness, their restarts, their end."""
