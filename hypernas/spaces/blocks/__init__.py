"""Parts of networks that the search spaces are built of."""
