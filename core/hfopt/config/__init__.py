"""The user's config: read with its positions, checked whole, resolved into components and their settings."""
