"""Plan, run and record evaluations."""
