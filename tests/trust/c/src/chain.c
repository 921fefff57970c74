/* y = 2 x, and a chain of WORK + EXTRA dependent multiply-adds for each element, whose result no output depends on. */
static inline void body(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) {
        float value = x[i], sum = value;
        for (int k = 0; k < WORK + EXTRA; k++)
            sum = sum * 0.5f + value;
        /* |sum| stays below 2 |value|: never true, and the compiler does not know it. */
        y[i] = sum == 1e30f ? 0 : 2 * value;
    }
}

void chain(const float *x, float *y, int n)
{
    body(x, y, n);
}

void chain_twin(const float *x, float *y, int n)
{
    body(x, y, n);
}
