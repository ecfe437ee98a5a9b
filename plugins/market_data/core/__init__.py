"""Words that all rooms share: errors, intervals, calendar, value types. Imports nothing of the project."""
