// A kernel of nbody.cu.
