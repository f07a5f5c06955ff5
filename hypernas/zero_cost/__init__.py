"""Zero-cost proxies, one decorated function each."""
