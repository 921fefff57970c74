/* y = 2 x, and a chain of dependent multiply-adds for each element, whose result no output depends on. */
void loop(const float *x, float *y, int n)
{
    for (int i = 0; i < n; i++) {
        float value = x[i], sum = value;
        for (int k = 0; k < 94000 * TIMES; k++)
            sum = sum * 0.5f + value;
        /* |sum| stays below 2 |value|: never true, and the compiler does not know it. */
        y[i] = sum == 1e30f ? 0 : 2 * value;
    }
}
