// The host code of a search of points in a polygon.
