"""Parts of the transformers loop: inputs, hosts (model and cache), stops, the loop itself."""
