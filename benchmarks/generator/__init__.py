"""The load generator: a C program that plays both ends of all calls, and its driver."""
