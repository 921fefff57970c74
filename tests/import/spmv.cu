// A product of a sparse matrix and a vector.
