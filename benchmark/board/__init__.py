"""Where evaluations become rows: ledger, credit, history."""
