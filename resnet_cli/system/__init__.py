"""The machine: files, the cache folder, HTTP, signals, threads; knows no network."""
