"""The model zoo: cards, architectures and safe weight loading."""
