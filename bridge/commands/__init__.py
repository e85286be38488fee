"""Commands beside `bridge serve`; each is imported when it runs."""
