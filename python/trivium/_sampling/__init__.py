"""Parts of `trivium.sampling`, which is where they are imported from."""
