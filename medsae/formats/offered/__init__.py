"""The formats that are built in, one file each: its registration and two pure functions. Imports no torch."""
