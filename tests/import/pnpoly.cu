// The kernel of a search of points in a polygon.
