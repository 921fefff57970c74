// A kernel of convolution_milo.cu.
