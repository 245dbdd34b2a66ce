"""The live machine: it sees, and it writes. Its rooms are imported by name; nothing here is for readers of ledgers."""
