#include <stdlib.h>
#include <string.h>

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

void sorted(const double *x, double *y, int n)
{
    memcpy(y, x, n * sizeof *y);
    qsort(y, n, sizeof *y, compare);
}

void twice(const double *x, double *y, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = 2 * x[i];
}
