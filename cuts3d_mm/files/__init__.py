"""Write, lock and name files, on this machine and in buckets."""
