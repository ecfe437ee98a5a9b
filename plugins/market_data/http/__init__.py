"""HTTP below the providers: one client, rate limits."""
