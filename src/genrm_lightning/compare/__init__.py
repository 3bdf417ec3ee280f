"""The methods of the paper, trained and evaluated on the same pairs: settings, methods, reading, table, loop."""
