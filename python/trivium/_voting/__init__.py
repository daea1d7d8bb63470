"""Parts of `trivium.voter`: events, arguments, clusters of keys."""
