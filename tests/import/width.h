#define WIDTH 512
