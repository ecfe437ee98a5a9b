"""Terms that all rooms share: errors, intervals, calendar, value types. Imports no other room."""
