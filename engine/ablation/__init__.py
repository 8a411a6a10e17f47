"""Studies: many trainings of f and g that differ in one thing, and the tables they make."""
