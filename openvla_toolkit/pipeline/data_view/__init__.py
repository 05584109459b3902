"""The page that ``openvla data view`` writes: what a data set looks like, episode by episode."""
