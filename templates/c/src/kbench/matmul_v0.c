/* `matmul` with ROWS=2 COLS=16 PACK=0; written by `cargo kbench export`. */
#define ROWS 2
#define COLS 16
#define PACK 0
#define matmul {{ident}}_matmul_v0
#include "../matmul.c"
