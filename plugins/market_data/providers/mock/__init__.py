"""The mock provider: seeded generated data, no network."""
