// A kernel of dedispersion.cu.hip.
