"""Self-contained pages: templates, charts as inline SVG, one style for light and dark screens."""
