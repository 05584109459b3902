"""What a training would take: told from shapes, before anything is read or fetched."""
